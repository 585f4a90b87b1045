-- description: Age, size and maker of each plane, from the register at the start of 2013.
-- owner: flights
-- entity: [tailnum]
-- event_time: event_time
-- known_time: known_time
-- columns:
--   plane_age: {type: integer, minimum: 0, maximum: 70, description: years}
--   seats: {type: integer, minimum: 1, maximum: 500}
--   engine: {type: category}
--   manufacturer: {type: category}
SELECT
    tailnum,
    TIMESTAMP '2013-01-01' AS event_time,
    TIMESTAMP '2013-01-01' AS known_time,
    2013 - year AS plane_age,
    seats,
    engine,
    manufacturer
FROM raw.planes
