-- The local database of pattern 4. What the server has is in todos_synced, what the user did is
-- in the log "changes", what the log comes to is in todos_local, and the app sees the view todos.

CREATE TABLE IF NOT EXISTS todos_synced (
    id uuid PRIMARY KEY,
    title text,
    completed boolean,
    created_at timestamptz,
    write_id uuid -- of the last write that the server applied to the row
);

-- Where the stream goes on: written in the same transactions as todos_synced.
CREATE TABLE IF NOT EXISTS sync_state (shape text PRIMARY KEY, handle text, "offset" text);

-- The overlay: the columns named in changed_columns win over those of todos_synced.
CREATE TABLE IF NOT EXISTS todos_local (
    id uuid PRIMARY KEY,
    title text,
    completed boolean,
    created_at timestamptz,
    changed_columns text[] NOT NULL DEFAULT '{}',
    is_deleted boolean NOT NULL DEFAULT false,
    write_id uuid NOT NULL
);

-- One line per write, until the stream has brought it back:
--     pending -> sending -> accepted -> (gone)
--                       `-> rejected -> pending again, or (gone), as the user decides
CREATE TABLE IF NOT EXISTS changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    todo_id uuid NOT NULL,
    operation text NOT NULL CHECK (operation IN ('insert', 'update', 'delete')),
    value jsonb NOT NULL, -- only what this write changed; null is a value
    write_id uuid NOT NULL UNIQUE,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    state text NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'sending', 'accepted', 'rejected')),
    reason text,
    txid bigint,
    lsn numeric
);
CREATE INDEX IF NOT EXISTS changes_of_todo ON changes (todo_id, id);

CREATE OR REPLACE VIEW todos AS
SELECT COALESCE(s.id, l.id) AS id,
       CASE WHEN 'title' = ANY (l.changed_columns) THEN l.title ELSE s.title END AS title,
       CASE WHEN 'completed' = ANY (l.changed_columns)
            THEN l.completed ELSE s.completed END AS completed,
       CASE WHEN 'created_at' = ANY (l.changed_columns)
            THEN l.created_at ELSE s.created_at END AS created_at,
       l.id IS NOT NULL AS pending
FROM todos_synced s FULL JOIN todos_local l ON l.id = s.id
WHERE NOT COALESCE(l.is_deleted, false)
  AND (s.id IS NOT NULL OR 'created_at' = ANY (l.changed_columns));

-- --- The overlay is what the log comes to ---

CREATE OR REPLACE FUNCTION log_change(todo uuid, op text, new_value jsonb) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO changes (todo_id, operation, value, write_id)
    VALUES (todo, op, new_value, gen_random_uuid());
$$;

CREATE OR REPLACE FUNCTION apply_to_local(change changes) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    names text[] := ARRAY(SELECT jsonb_object_keys(change.value));
    line todos_local;
BEGIN
    SELECT * INTO line FROM todos_local WHERE id = change.todo_id;
    line := jsonb_populate_record(line, change.value || jsonb_build_object(
        'id', change.todo_id, 'write_id', change.write_id,
        'is_deleted', change.operation = 'delete',
        'changed_columns', CASE WHEN change.operation = 'delete' THEN '[]'::jsonb
            ELSE to_jsonb(ARRAY(SELECT DISTINCT unnest(line.changed_columns || names))) END));
    DELETE FROM todos_local WHERE id = change.todo_id;
    INSERT INTO todos_local SELECT line.*;
END $$;

CREATE OR REPLACE FUNCTION rebuild_local(todo uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    change changes;
BEGIN
    DELETE FROM todos_local WHERE id = todo;
    FOR change IN SELECT * FROM changes WHERE todo_id = todo AND state <> 'rejected' ORDER BY id LOOP
        PERFORM apply_to_local(change);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION on_change_logged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM apply_to_local(NEW);
    NOTIFY changes;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER change_logged AFTER INSERT ON changes
    FOR EACH ROW EXECUTE FUNCTION on_change_logged();

-- --- Writing to the view ---

CREATE OR REPLACE FUNCTION on_todo_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM todos_synced WHERE id = NEW.id)
        OR EXISTS (SELECT FROM todos_local WHERE id = NEW.id) THEN
        RAISE EXCEPTION 'there is a todo with the id % already', NEW.id
            USING ERRCODE = 'unique_violation';
    END IF;
    NEW.completed := COALESCE(NEW.completed, false);
    NEW.created_at := COALESCE(NEW.created_at, now());
    PERFORM log_change(NEW.id, 'insert', jsonb_build_object(
        'title', NEW.title, 'completed', NEW.completed, 'created_at', NEW.created_at));
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER todo_insert INSTEAD OF INSERT ON todos
    FOR EACH ROW EXECUTE FUNCTION on_todo_insert();

CREATE OR REPLACE FUNCTION on_todo_update() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed jsonb;
    back text[];
BEGIN
    -- IS DISTINCT FROM, not COALESCE: setting a column to null is a change like any other.
    SELECT COALESCE(jsonb_object_agg(n.key, n.value), '{}') INTO changed
    FROM jsonb_each(to_jsonb(NEW)) n JOIN jsonb_each(to_jsonb(OLD)) o USING (key)
    WHERE n.key IN ('title', 'completed', 'created_at') AND n.value IS DISTINCT FROM o.value;
    -- A column that goes back to the server's value takes along the writes of it that have not
    -- been tried: nobody need hear of them, and somebody else's change of it shows again.
    back := ARRAY(SELECT n.key FROM jsonb_each(changed) n, todos_synced s
                  WHERE s.id = OLD.id AND n.value = to_jsonb(s) -> n.key);
    IF back <> '{}' THEN
        UPDATE changes SET value = value - back
        WHERE todo_id = OLD.id AND state = 'pending' AND operation = 'update';
        DELETE FROM changes WHERE todo_id = OLD.id AND state = 'pending'
            AND operation = 'update' AND value = '{}';
        PERFORM rebuild_local(OLD.id);
        -- One that has been tried may be on the server by now: it takes another write to undo it,
        -- and the column stays as the user left it until that one is back.
        changed := changed - ARRAY(SELECT name FROM unnest(back) name WHERE NOT EXISTS (
            SELECT FROM changes WHERE todo_id = OLD.id AND state <> 'rejected' AND value ? name));
    END IF;
    IF changed <> '{}' THEN
        PERFORM log_change(OLD.id, 'update', changed);
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER todo_update INSTEAD OF UPDATE ON todos
    FOR EACH ROW EXECUTE FUNCTION on_todo_update();

CREATE OR REPLACE FUNCTION on_todo_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- What the server has never heard of needs no deleting there, and would never come back.
    IF EXISTS (SELECT FROM changes
               WHERE todo_id = OLD.id AND operation = 'insert' AND state = 'pending') THEN
        DELETE FROM changes WHERE todo_id = OLD.id;
        DELETE FROM todos_local WHERE id = OLD.id;
    ELSE
        PERFORM log_change(OLD.id, 'delete', '{}');
    END IF;
    RETURN OLD;
END $$;
CREATE OR REPLACE TRIGGER todo_delete INSTEAD OF DELETE ON todos
    FOR EACH ROW EXECUTE FUNCTION on_todo_delete();

-- --- What the stream brings ---

-- The echo of a write ends it and those before it. The overlay goes with the echo of the last
-- one: until then it stays over whatever else comes in.
CREATE OR REPLACE FUNCTION on_synced_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM changes c USING changes echo
    WHERE echo.write_id = NEW.write_id AND c.todo_id = NEW.id AND c.id <= echo.id
      AND c.state IN ('sending', 'accepted');
    DELETE FROM todos_local WHERE id = NEW.id AND write_id = NEW.write_id;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER synced_write AFTER INSERT OR UPDATE ON todos_synced
    FOR EACH ROW EXECUTE FUNCTION on_synced_write();

-- Deletes carry no write_id. While the whole table is taken in again (local.refilling) a row that
-- goes has not been deleted by anybody.
CREATE OR REPLACE FUNCTION on_synced_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('local.refilling', true) IS DISTINCT FROM 'on' THEN
        DELETE FROM changes WHERE todo_id = OLD.id AND state IN ('sending', 'accepted')
            AND operation = 'delete';
        DELETE FROM todos_local WHERE id = OLD.id;
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER synced_delete AFTER DELETE ON todos_synced
    FOR EACH ROW EXECUTE FUNCTION on_synced_delete();

-- Accepted writes that the stream has passed. Needed where no echo comes: the update of a row
-- that is gone, or one whose write_id somebody has overwritten before we looked.
CREATE OR REPLACE FUNCTION settle_changes(seen_txids bigint[], seen_lsn numeric) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    todo uuid;
BEGIN
    FOR todo IN
        WITH settled AS (
            DELETE FROM changes WHERE state = 'accepted'
                AND (txid IS NULL OR txid = ANY (seen_txids) OR lsn <= seen_lsn)
            RETURNING todo_id)
        SELECT DISTINCT todo_id FROM settled
    LOOP
        IF NOT EXISTS (SELECT FROM changes WHERE todo_id = todo AND state <> 'rejected') THEN
            DELETE FROM todos_local WHERE id = todo;
        END IF;
    END LOOP;
END $$;

-- --- What the server says ---

-- A refused group goes, with everything that was done later to the same todos; all else stays.
CREATE OR REPLACE FUNCTION reject_changes(refused bigint[], why text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    todo uuid;
BEGIN
    FOR todo IN SELECT DISTINCT todo_id FROM changes WHERE id = ANY (refused) LOOP
        UPDATE changes SET state = 'rejected',
            reason = CASE WHEN id = ANY (refused) THEN why
                          ELSE 'It was made after a change that was refused' END
        WHERE todo_id = todo AND id >= (SELECT min(id) FROM changes
            WHERE todo_id = todo AND id = ANY (refused)) AND state IN ('pending', 'sending');
        PERFORM rebuild_local(todo);
    END LOOP;
END $$;

-- The user wants it sent again, perhaps with another value: a new write at the end of the log.
CREATE OR REPLACE FUNCTION resend_change(refused bigint, new_value jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    change changes;
BEGIN
    DELETE FROM changes WHERE id = refused AND state = 'rejected' RETURNING * INTO change;
    IF FOUND THEN
        PERFORM log_change(change.todo_id, change.operation, change.value || new_value);
    END IF;
END $$;
