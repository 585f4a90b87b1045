-- description: How late flights have been at each New York airport, and at all three together, every ten minutes.
--   News is taken together until the next full ten minutes, when it counts as known.
-- owner: flights
-- entity: [origin]
-- event_time: known_time
-- known_time: known_time
-- columns:
--   origin_left_late_1h: {type: number, minimum: 0, maximum: 1, description: share of departures over 15 minutes late}
--   origin_left_late_3h: {type: number, minimum: 0, maximum: 1, description: share of departures over 15 minutes late}
--   origin_dep_delay_2h: {type: number, description: "mean departure delay, minutes"}
--   origin_late_3h: {type: number, minimum: 0, maximum: 1, description: share of arrivals over 15 minutes late}
--   origin_late_24h: {type: number, minimum: 0, maximum: 1, description: share of arrivals over 15 minutes late}
--   origin_late_7d: {type: number, minimum: 0, maximum: 1, description: share of arrivals over 15 minutes late}
--   origin_lost_3h: {type: number, description: "mean minutes lost between departure and landing"}
--   network_left_late_1h: {type: number, minimum: 0, maximum: 1, description: share of departures over 15 minutes late}
--   network_dep_delay_2h: {type: number, description: "mean departure delay, minutes"}
--   network_late_6h: {type: number, minimum: 0, maximum: 1, description: share of arrivals over 15 minutes late}
--   network_late_24h: {type: number, minimum: 0, maximum: 1, description: share of arrivals over 15 minutes late}
--   network_late_7d: {type: number, minimum: 0, maximum: 1, description: share of arrivals over 15 minutes late}
WITH news AS (
    SELECT
        *,
        date_trunc('hour', known_time) + ceil(extract(minute FROM known_time) / 10) * INTERVAL '10' MINUTE AS told_at
    FROM curated.news
), told AS (
    SELECT
        origin,
        told_at AS known_time,
        count(dep_delay) AS departed,
        sum(dep_delay) AS dep_delay,
        sum(left_late) AS left_late,
        count(late) AS landed,
        sum(late) AS late,
        sum(lost) AS lost
    FROM news
    GROUP BY origin, told_at
)
SELECT
    origin,
    known_time,
    sum(left_late) OVER last_1h / nullif(sum(departed) OVER last_1h, 0) AS origin_left_late_1h,
    sum(left_late) OVER last_3h / nullif(sum(departed) OVER last_3h, 0) AS origin_left_late_3h,
    sum(dep_delay) OVER last_2h / nullif(sum(departed) OVER last_2h, 0) AS origin_dep_delay_2h,
    sum(late) OVER last_3h / nullif(sum(landed) OVER last_3h, 0) AS origin_late_3h,
    sum(late) OVER last_24h / nullif(sum(landed) OVER last_24h, 0) AS origin_late_24h,
    sum(late) OVER last_7d / nullif(sum(landed) OVER last_7d, 0) AS origin_late_7d,
    sum(lost) OVER last_3h / nullif(sum(landed) OVER last_3h, 0) AS origin_lost_3h,
    sum(left_late) OVER all_1h / nullif(sum(departed) OVER all_1h, 0) AS network_left_late_1h,
    sum(dep_delay) OVER all_2h / nullif(sum(departed) OVER all_2h, 0) AS network_dep_delay_2h,
    sum(late) OVER all_6h / nullif(sum(landed) OVER all_6h, 0) AS network_late_6h,
    sum(late) OVER all_24h / nullif(sum(landed) OVER all_24h, 0) AS network_late_24h,
    sum(late) OVER all_7d / nullif(sum(landed) OVER all_7d, 0) AS network_late_7d
FROM told
WINDOW
    last_1h AS (PARTITION BY origin ORDER BY known_time RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW),
    last_2h AS (PARTITION BY origin ORDER BY known_time RANGE BETWEEN INTERVAL '2' HOUR PRECEDING AND CURRENT ROW),
    last_3h AS (PARTITION BY origin ORDER BY known_time RANGE BETWEEN INTERVAL '3' HOUR PRECEDING AND CURRENT ROW),
    last_24h AS (PARTITION BY origin ORDER BY known_time RANGE BETWEEN INTERVAL '24' HOUR PRECEDING AND CURRENT ROW),
    last_7d AS (PARTITION BY origin ORDER BY known_time RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW),
    all_1h AS (ORDER BY known_time RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW),
    all_2h AS (ORDER BY known_time RANGE BETWEEN INTERVAL '2' HOUR PRECEDING AND CURRENT ROW),
    all_6h AS (ORDER BY known_time RANGE BETWEEN INTERVAL '6' HOUR PRECEDING AND CURRENT ROW),
    all_24h AS (ORDER BY known_time RANGE BETWEEN INTERVAL '24' HOUR PRECEDING AND CURRENT ROW),
    all_7d AS (ORDER BY known_time RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW)
