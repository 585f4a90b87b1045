-- description: For each flight, what is known of its plane's leg before it, from the schedule until that leg has landed.
--   Only legs out of New York are in the data, so the plane also has to fly back in between, and slack counts the minutes
--   left after the leg before, the way back (as long as the way out is scheduled) and the delay known so far.
-- owner: flights
-- entity: [flight_id]
-- event_time: known_time
-- known_time: known_time
-- columns:
--   inbound_stage: {type: integer, minimum: 0, maximum: 2, description: "0 scheduled, 1 left, 2 landed"}
--   inbound_delay: {type: integer, description: "minutes, of the departure and then of the landing"}
--   slack: {type: number, description: minutes to spare with the delay known so far}
--   slack_planned: {type: number, description: minutes to spare by the schedule}
WITH legs AS (
    SELECT
        flight_id,
        scheduled_departure,
        lag(scheduled_departure) OVER plane AS left_at,
        lag(scheduled_arrival) OVER plane AS landed_at,
        lag(dep_delay) OVER plane AS dep_delay,
        lag(arr_delay) OVER plane AS arr_delay
    FROM raw.flights
    WHERE tailnum IS NOT NULL
    WINDOW plane AS (PARTITION BY tailnum ORDER BY scheduled_departure, flight_id)
), turns AS (
    SELECT
        *,
        (epoch(scheduled_departure) - epoch(landed_at) - (epoch(landed_at) - epoch(left_at))) / 60 AS slack_planned
    FROM legs
    WHERE scheduled_departure - INTERVAL '16' HOUR < landed_at
), stages AS (
    SELECT flight_id, left_at - INTERVAL '16' HOUR AS known_time, 0 AS inbound_stage, 0 AS inbound_delay, slack_planned FROM turns
    UNION ALL
    SELECT flight_id, left_at + dep_delay * INTERVAL '1' MINUTE, 1, dep_delay, slack_planned
    FROM turns WHERE dep_delay IS NOT NULL
    UNION ALL
    SELECT flight_id, landed_at + arr_delay * INTERVAL '1' MINUTE, 2, arr_delay, slack_planned
    FROM turns WHERE arr_delay IS NOT NULL
)
SELECT
    flight_id,
    known_time,
    max(inbound_stage) AS inbound_stage,
    max_by(inbound_delay, inbound_stage) AS inbound_delay,
    min(slack_planned) - max_by(inbound_delay, inbound_stage) AS slack,
    min(slack_planned) AS slack_planned
FROM stages
GROUP BY flight_id, known_time
