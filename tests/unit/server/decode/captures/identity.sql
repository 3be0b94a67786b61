-- What old rows look like under each replica identity, and what is left out.
CREATE TABLE full_id (id int PRIMARY KEY, big text, note text);
ALTER TABLE full_id REPLICA IDENTITY FULL;
ALTER TABLE full_id ALTER big SET STORAGE EXTERNAL;
CREATE TABLE key_id (id int PRIMARY KEY, big text, note text);
ALTER TABLE key_id ALTER big SET STORAGE EXTERNAL;
CREATE TABLE index_id (a int NOT NULL, b text);
CREATE UNIQUE INDEX index_id_a ON index_id (a);
ALTER TABLE index_id REPLICA IDENTITY USING INDEX index_id_a;
CREATE TABLE nothing_id (a int);
ALTER TABLE nothing_id REPLICA IDENTITY NOTHING;
CREATE TABLE no_columns ();
ALTER TABLE no_columns REPLICA IDENTITY FULL;
-- record: capture FOR TABLE full_id, key_id, index_id, nothing_id, no_columns
INSERT INTO full_id VALUES (1, repeat('0123456789', 300), 'a');
UPDATE full_id SET note = 'b' WHERE id = 1;
UPDATE full_id SET id = 2 WHERE id = 1;
UPDATE full_id SET big = NULL;
DELETE FROM full_id;
INSERT INTO key_id VALUES (1, repeat('0123456789', 300), 'a');
UPDATE key_id SET note = 'b' WHERE id = 1;
UPDATE key_id SET id = 2 WHERE id = 1;
DELETE FROM key_id;
INSERT INTO index_id VALUES (1, 'x');
UPDATE index_id SET a = 2;
DELETE FROM index_id;
INSERT INTO nothing_id VALUES (1);
INSERT INTO no_columns DEFAULT VALUES;
DELETE FROM no_columns;
