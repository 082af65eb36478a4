-- Ticks of every pair. `seq` is the pair's own number: with the time and the pair it makes replays harmless.
CREATE TABLE IF NOT EXISTS trades (
    symbol SYMBOL CAPACITY 256 CACHE,
    price DOUBLE,
    size DOUBLE,
    timestamp TIMESTAMP,
    exchange SYMBOL CAPACITY 32 NOCACHE,
    side SYMBOL CAPACITY 2 NOCACHE,
    seq LONG,
    trade_id VARCHAR
) TIMESTAMP(timestamp) PARTITION BY DAY WAL DEDUP UPSERT KEYS(timestamp, symbol, seq);

CREATE TABLE IF NOT EXISTS ohlcv_1m (
    symbol SYMBOL,
    open DOUBLE,
    high DOUBLE,
    low DOUBLE,
    close DOUBLE,
    volume DOUBLE,
    vwap DOUBLE,
    trade_count LONG,
    timestamp TIMESTAMP
) TIMESTAMP(timestamp) PARTITION BY DAY WAL DEDUP UPSERT KEYS(timestamp, symbol);

CREATE TABLE IF NOT EXISTS ohlcv_1d (
    symbol SYMBOL,
    open DOUBLE,
    high DOUBLE,
    low DOUBLE,
    close DOUBLE,
    volume DOUBLE,
    vwap DOUBLE,
    trade_count LONG,
    timestamp TIMESTAMP
) TIMESTAMP(timestamp) PARTITION BY YEAR WAL DEDUP UPSERT KEYS(timestamp, symbol);
