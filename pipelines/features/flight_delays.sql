-- description: How late each flight number has been on the days before, up to each piece of news.
-- owner: flights
-- entity: [flight_number]
-- event_time: known_time
-- known_time: known_time
-- columns:
--   flight_late_7d: {type: number, minimum: 0, maximum: 1, description: share of arrivals more than 15 minutes late}
--   flight_late_28d: {type: number, minimum: 0, maximum: 1, description: share of arrivals more than 15 minutes late}
--   flight_landed_28d: {type: integer, minimum: 0, description: arrivals}
--   flight_dep_delay_7d: {type: number, description: "mean departure delay, minutes"}
--   flight_lost_28d: {type: number, description: "mean minutes lost between departure and landing"}
SELECT DISTINCT
    flight_number,
    known_time,
    avg(late) OVER last_7d AS flight_late_7d,
    avg(late) OVER last_28d AS flight_late_28d,
    count(late) OVER last_28d AS flight_landed_28d,
    avg(dep_delay) OVER last_7d AS flight_dep_delay_7d,
    avg(lost) OVER last_28d AS flight_lost_28d
FROM curated.news
WINDOW
    last_7d AS (PARTITION BY flight_number ORDER BY known_time RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW),
    last_28d AS (PARTITION BY flight_number ORDER BY known_time RANGE BETWEEN INTERVAL '28' DAY PRECEDING AND CURRENT ROW)
