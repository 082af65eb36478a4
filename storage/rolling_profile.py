"""The market profile of a look-back (definitions §3), as SQL."""

from __future__ import annotations

PROFILE = """
    wide AS (
        SELECT coalesce(bin, (
            SELECT max_by(bin_size, timestamp) FROM market_profile WHERE timestamp >= {newest_profile}
        )) AS width WHERE CASE
            WHEN bin <= 0 THEN error('rolling_profile: bin must be more than 0')
            WHEN va_step NOT IN (1, 2) THEN error('rolling_profile: va_step must be 1 or 2')
            WHEN value_area <= 0 OR value_area > 1
                THEN error('rolling_profile: value_area must be more than 0, and at most 1')
            ELSE true END
    ),
    traded AS (
        SELECT floor(round(price / width, 6))::BIGINT AS j, sum(volume) AS volume
        FROM part, wide WHERE width IS NOT NULL GROUP BY j
    ),
    units AS (
        SELECT j, round(volume * pow(10, least(greatest(8, 12 - digits), 15 - digits)))::HUGEINT AS v
        FROM traded, (SELECT ceil(log10(sum(volume))) AS digits FROM traded)
    ),
    bounds AS (SELECT min(j) AS low, max(j) AS high, max(v) AS most, sum(v) AS total FROM units),
    control AS (
        SELECT arg_min(j, (abs(2 * j - low - high), j)) AS row, any_value(most) AS v
        FROM units, bounds WHERE v = most
    ),
    steps AS (
        SELECT (j > row)::INTEGER AS above, (abs(j - row) - 1) // va_step AS number, sum(units.v) AS v
        FROM units, control WHERE j <> row GROUP BY ALL
    ),
    reached AS (
        SELECT *,
            CASE WHEN number = row_number() OVER outward - 1 THEN min(v) OVER outward ELSE 0 END AS least
        FROM steps WINDOW outward AS (PARTITION BY above ORDER BY number)
    ),
    taken AS (
        SELECT above, number, control.v + coalesce(sum(reached.v) OVER (
            ORDER BY least DESC, above DESC, number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ), 0) AS before
        FROM reached, control
    ),
    area AS (
        SELECT coalesce(max(number) FILTER (above = 1) + 1, 0) * va_step AS up,
            coalesce(max(number) FILTER (above = 0) + 1, 0) * va_step AS down
        FROM taken, bounds WHERE before < value_area * total * (1 - 1e-15)
    )
    SELECT from_time, to_time, (row * unit)::VARCHAR::DOUBLE AS poc,
        (least(row + up, high) * unit)::VARCHAR::DOUBLE AS value_area_high,
        (greatest(row - down, low) * unit)::VARCHAR::DOUBLE AS value_area_low,
        (SELECT sum(volume) FROM part) AS total_volume, width AS bin_size
    FROM span, (SELECT width, width::DECIMAL(38, 12) AS unit FROM wide), control, bounds, area"""
"""CTEs and the row they give, of the trades in `part` and the moments in `span`.

A side is taken outward, the larger next step first: that is the order of the least step on the way to each.
Sums are compared in whole units, as many digits as float64 holds; prices are made by decimal arithmetic.
"""
