-- The app's table, and the role of the page's writes. The page has no sign-in, as the original
-- has none: everybody is web_anon.
CREATE TABLE todos (
    id uuid PRIMARY KEY,
    title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    completed boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    write_id uuid
);

-- A rule that only the server knows, so that there is something to be refused.
CREATE FUNCTION no_shouting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.title ~ '[[:alpha:]]' AND NEW.title = upper(NEW.title) THEN
        RAISE EXCEPTION 'No shouting, please: "%" is all capitals', NEW.title;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER no_shouting BEFORE INSERT OR UPDATE OF title ON todos
    FOR EACH ROW EXECUTE FUNCTION no_shouting();

DO $$
BEGIN
    CREATE ROLE web_anon NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; -- roles belong to the cluster
END $$;
GRANT SELECT, INSERT, DELETE ON todos TO web_anon;
GRANT UPDATE (title, completed, write_id) ON todos TO web_anon;

INSERT INTO todos (id, title, completed, created_at) VALUES
    ('00000000-0000-4000-8000-000000000001', 'Water the tomatoes', true, now() - interval '3 hours'),
    ('00000000-0000-4000-8000-000000000002', 'Ask Amira about Thursday', false, now() - interval '2 hours'),
    ('00000000-0000-4000-8000-000000000003', 'Try this with the network off', false, now() - interval '1 hour');
