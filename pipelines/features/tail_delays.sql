-- description: How late each plane has been, up to each piece of news.
-- owner: flights
-- entity: [tailnum]
-- event_time: known_time
-- known_time: known_time
-- columns:
--   tail_late_24h: {type: number, minimum: 0, maximum: 1, description: share of arrivals more than 15 minutes late}
--   tail_late_7d: {type: number, minimum: 0, maximum: 1, description: share of arrivals more than 15 minutes late}
--   tail_late_28d: {type: number, minimum: 0, maximum: 1, description: share of arrivals more than 15 minutes late}
SELECT DISTINCT
    tailnum,
    known_time,
    avg(late) OVER last_24h AS tail_late_24h,
    avg(late) OVER last_7d AS tail_late_7d,
    avg(late) OVER last_28d AS tail_late_28d
FROM curated.news
WHERE tailnum IS NOT NULL
WINDOW
    last_24h AS (PARTITION BY tailnum ORDER BY known_time RANGE BETWEEN INTERVAL '24' HOUR PRECEDING AND CURRENT ROW),
    last_7d AS (PARTITION BY tailnum ORDER BY known_time RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW),
    last_28d AS (PARTITION BY tailnum ORDER BY known_time RANGE BETWEEN INTERVAL '28' DAY PRECEDING AND CURRENT ROW)
