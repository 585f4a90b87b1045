-- description: Weather at each New York airport by the hour; an hour is known when it is over.
-- owner: flights
-- entity: [origin]
-- event_time: event_time
-- known_time: known_time
-- columns:
--   temp: {type: number, minimum: -40, maximum: 130, description: degrees Fahrenheit}
--   dewp: {type: number, minimum: -60, maximum: 100, description: "dew point, degrees Fahrenheit"}
--   humid: {type: number, minimum: 0, maximum: 100, description: percent}
--   wind_dir: {type: integer, minimum: 0, maximum: 360, description: degrees}
--   wind_speed: {type: number, minimum: 0, description: miles per hour; the source holds one slip of 1048}
--   wind_gust: {type: number, minimum: 0, description: miles per hour}
--   visib: {type: number, minimum: 0, maximum: 10, description: miles}
--   visib_3h: {type: number, minimum: 0, maximum: 10, description: worst of the last three hours}
--   precip_6h: {type: number, minimum: 0, description: inches in the last six hours}
--   pressure: {type: number, minimum: 900, maximum: 1100, description: millibars}
--   pressure_change: {type: number, description: millibars in three hours}
SELECT
    origin,
    time_hour AS event_time,
    time_hour + INTERVAL '1' HOUR AS known_time,
    temp,
    dewp,
    humid,
    wind_dir,
    wind_speed,
    wind_gust,
    visib,
    min(visib) OVER last_3h AS visib_3h,
    sum(precip) OVER last_6h AS precip_6h,
    pressure,
    pressure - first_value(pressure) OVER last_3h AS pressure_change
FROM raw.weather
WINDOW
    last_3h AS (PARTITION BY origin ORDER BY time_hour RANGE BETWEEN INTERVAL '3' HOUR PRECEDING AND CURRENT ROW),
    last_6h AS (PARTITION BY origin ORDER BY time_hour RANGE BETWEEN INTERVAL '6' HOUR PRECEDING AND CURRENT ROW)
