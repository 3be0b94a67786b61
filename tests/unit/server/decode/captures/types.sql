-- One row of every kind of type, in the text form that the display settings give.
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE types (
    id int PRIMARY KEY, b bool, i2 int2, i8 int8, f4 float4, f8 float8, n numeric(12, 4),
    t text, vc varchar(8), c char(4), by bytea, u uuid, d date, tm time, tmz timetz,
    ts timestamp, tsz timestamptz, iv interval, j json, jb jsonb, ip inet, mac macaddr,
    ints int[], texts text[], m mood, p positive, pr pair, tv tsvector, r int4range,
    bits varbit);
ALTER TABLE types REPLICA IDENTITY FULL;
-- record: capture FOR TABLE types
INSERT INTO types VALUES (
    1, true, -32768, 9223372036854775807, 0.1, 1e300, 12345678.9, E'tab\tquote"\\', 'vc', 'c',
    '\x00ff', '00112233-4455-6677-8899-aabbccddeeff', '0044-03-15 BC', '23:59:59.5',
    '10:00+05:30', '2024-02-29 12:00', '2024-02-29 12:00+02', '1 year 2 mons -3 days 04:05:06',
    '{"a": 1}', '{"b":  2}', '10.0.0.1/8', '08:00:2b:01:02:03', '{1,NULL,3}',
    '{"a b","c\"d",""}', 'happy', 7, '(1,"x y")', 'fat & rat', '[1,5)', B'1011');
INSERT INTO types (id, f4, f8, n, d, ts) VALUES (
    2, 'NaN', '-Infinity', 'NaN', 'infinity', '-infinity');
UPDATE types SET t = NULL, f4 = 3.4028235e38 WHERE id = 1;
DELETE FROM types WHERE id = 2;
