-- description: How late each carrier's flights have been, up to each piece of news.
-- owner: flights
-- entity: [carrier]
-- event_time: known_time
-- known_time: known_time
-- columns:
--   carrier_left_late_3h: {type: number, minimum: 0, maximum: 1, description: share of departures more than 15 minutes late}
--   carrier_dep_delay_3h: {type: number, description: "mean departure delay, minutes"}
--   carrier_late_3h: {type: number, minimum: 0, maximum: 1, description: share of arrivals more than 15 minutes late}
--   carrier_late_24h: {type: number, minimum: 0, maximum: 1, description: share of arrivals more than 15 minutes late}
--   carrier_late_7d: {type: number, minimum: 0, maximum: 1, description: share of arrivals more than 15 minutes late}
SELECT DISTINCT
    carrier,
    known_time,
    avg(left_late) OVER last_3h AS carrier_left_late_3h,
    avg(dep_delay) OVER last_3h AS carrier_dep_delay_3h,
    avg(late) OVER last_3h AS carrier_late_3h,
    avg(late) OVER last_24h AS carrier_late_24h,
    avg(late) OVER last_7d AS carrier_late_7d
FROM curated.news
WINDOW
    last_3h AS (PARTITION BY carrier ORDER BY known_time RANGE BETWEEN INTERVAL '3' HOUR PRECEDING AND CURRENT ROW),
    last_24h AS (PARTITION BY carrier ORDER BY known_time RANGE BETWEEN INTERVAL '24' HOUR PRECEDING AND CURRENT ROW),
    last_7d AS (PARTITION BY carrier ORDER BY known_time RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW)
