-- A row that was refused, as JSON, at its own time (1970 where that was the fault), with the server's reason.
CREATE TABLE IF NOT EXISTS dead_letters (
    table_name SYMBOL,
    symbol VARCHAR,
    reason VARCHAR,
    row VARCHAR,
    timestamp TIMESTAMP
) TIMESTAMP(timestamp) PARTITION BY YEAR WAL DEDUP UPSERT KEYS(timestamp, table_name, symbol, row);
