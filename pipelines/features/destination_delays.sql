-- description: How late flights to each destination have been, up to each piece of news.
-- owner: flights
-- entity: [dest]
-- event_time: known_time
-- known_time: known_time
-- columns:
--   dest_dep_delay_3h: {type: number, description: "mean departure delay, minutes"}
--   dest_late_6h: {type: number, minimum: 0, maximum: 1, description: share of arrivals more than 15 minutes late}
--   dest_late_24h: {type: number, minimum: 0, maximum: 1, description: share of arrivals more than 15 minutes late}
--   dest_late_7d: {type: number, minimum: 0, maximum: 1, description: share of arrivals more than 15 minutes late}
--   dest_lost_24h: {type: number, description: "mean minutes lost between departure and landing"}
--   dest_lost_7d: {type: number, description: "mean minutes lost between departure and landing"}
SELECT DISTINCT
    dest,
    known_time,
    avg(dep_delay) OVER last_3h AS dest_dep_delay_3h,
    avg(late) OVER last_6h AS dest_late_6h,
    avg(late) OVER last_24h AS dest_late_24h,
    avg(late) OVER last_7d AS dest_late_7d,
    avg(lost) OVER last_24h AS dest_lost_24h,
    avg(lost) OVER last_7d AS dest_lost_7d
FROM curated.news
WINDOW
    last_3h AS (PARTITION BY dest ORDER BY known_time RANGE BETWEEN INTERVAL '3' HOUR PRECEDING AND CURRENT ROW),
    last_6h AS (PARTITION BY dest ORDER BY known_time RANGE BETWEEN INTERVAL '6' HOUR PRECEDING AND CURRENT ROW),
    last_24h AS (PARTITION BY dest ORDER BY known_time RANGE BETWEEN INTERVAL '24' HOUR PRECEDING AND CURRENT ROW),
    last_7d AS (PARTITION BY dest ORDER BY known_time RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW)
