-- description: One row per scheduled flight, two hours before its departure, with what the schedule says about it.
--   late is whether it arrived more than 15 minutes behind schedule. A cancelled or diverted flight never arrived,
--   so it has neither label nor label_time and counts as unlabelled; the row stays, for whoever asks for a score.
-- owner: flights
-- entity: [flight_id]
-- event_time: scheduled_departure
-- known_time: as_of
-- columns:
--   late: {type: integer, minimum: 0, maximum: 1, description: arrived more than 15 minutes late}
--   carrier: {type: category, nullable: false}
--   origin: {type: category, nullable: false, categories: [EWR, JFK, LGA]}
--   dest: {type: category, nullable: false}
--   tailnum: {type: text}
--   flight_number: {type: text, nullable: false, description: the same flight on other days}
--   weekday: {type: integer, nullable: false, minimum: 1, maximum: 7, description: "Monday is 1, New York time"}
--   minute_of_day: {type: integer, nullable: false, minimum: 0, maximum: 1439, description: New York time}
--   distance: {type: integer, nullable: false, minimum: 1, description: miles}
--   scheduled_minutes: {type: number, nullable: false, minimum: 1, maximum: 1440}
--   scheduled_speed: {type: number, nullable: false, minimum: 0, description: "miles per minute; slow is generous"}
--   departures_near: {type: integer, nullable: false, minimum: 1, description: from this airport within half an hour}
--   arrivals_near: {type: integer, nullable: false, minimum: 1, description: at the destination within an hour}
WITH schedule AS (
    SELECT
        *,
        (epoch(scheduled_arrival) - epoch(scheduled_departure)) / 60 AS scheduled_minutes
    FROM raw.flights
)
SELECT
    flight_id,
    scheduled_departure,
    scheduled_departure - INTERVAL '2' HOUR AS as_of,
    CASE WHEN arr_delay > 15 THEN 1 WHEN arr_delay <= 15 THEN 0 END AS late,
    scheduled_arrival + arr_delay * INTERVAL '1' MINUTE AS label_time,
    carrier,
    origin,
    dest,
    tailnum,
    concat(carrier, '-', CAST(flight AS VARCHAR), '-', origin, '-', dest) AS flight_number,
    isodow(make_date(year, month, day)) AS weekday,
    hour * 60 + minute AS minute_of_day,
    distance,
    scheduled_minutes,
    distance / scheduled_minutes AS scheduled_speed,
    count(*) OVER (
        PARTITION BY origin ORDER BY scheduled_departure
        RANGE BETWEEN INTERVAL '30' MINUTE PRECEDING AND INTERVAL '30' MINUTE FOLLOWING
    ) AS departures_near,
    count(*) OVER (
        PARTITION BY dest ORDER BY scheduled_arrival
        RANGE BETWEEN INTERVAL '60' MINUTE PRECEDING AND INTERVAL '60' MINUTE FOLLOWING
    ) AS arrivals_near
FROM schedule
