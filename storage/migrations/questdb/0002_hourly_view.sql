CREATE MATERIALIZED VIEW IF NOT EXISTS ohlcv_1h AS (
    SELECT timestamp, symbol, first(open) open, max(high) high, min(low) low, last(close) close, sum(volume) volume
    FROM ohlcv_1m SAMPLE BY 1h
) PARTITION BY MONTH;
