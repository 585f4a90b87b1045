-- description: What became known about flights under way, one row when a flight leaves and one when it lands.
--   The rolling views are made of it, so nothing in them can be older or newer than its news.
-- owner: flights
-- entity: [flight_id]
-- event_time: known_time
-- known_time: known_time
-- columns:
--   dep_delay: {type: integer, description: "minutes, on the row of the departure, clipped to -15..180"}
--   left_late: {type: integer, minimum: 0, maximum: 1, description: "more than 15 minutes, on the row of the departure"}
--   arr_delay: {type: integer, description: "minutes, on the row of the landing"}
--   late: {type: integer, minimum: 0, maximum: 1, description: "more than 15 minutes, on the row of the landing"}
--   lost: {type: integer, description: "minutes lost between departure and landing, on the row of the landing"}
SELECT
    flight_id, carrier, origin, dest, tailnum,
    concat(carrier, '-', CAST(flight AS VARCHAR), '-', origin, '-', dest) AS flight_number,
    scheduled_departure + dep_delay * INTERVAL '1' MINUTE AS known_time,
    greatest(least(dep_delay, 180), -15) AS dep_delay,
    CASE WHEN dep_delay > 15 THEN 1 ELSE 0 END AS left_late,
    CAST(NULL AS BIGINT) AS arr_delay,
    CAST(NULL AS INTEGER) AS late,
    CAST(NULL AS BIGINT) AS lost
FROM raw.flights
WHERE dep_delay IS NOT NULL
UNION ALL
SELECT
    flight_id, carrier, origin, dest, tailnum,
    concat(carrier, '-', CAST(flight AS VARCHAR), '-', origin, '-', dest) AS flight_number,
    scheduled_arrival + arr_delay * INTERVAL '1' MINUTE AS known_time,
    NULL, NULL,
    arr_delay,
    CASE WHEN arr_delay > 15 THEN 1 ELSE 0 END AS late,
    arr_delay - dep_delay AS lost
FROM raw.flights
WHERE arr_delay IS NOT NULL
