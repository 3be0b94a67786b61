-- The Q&A app's database. Users come here only through the functions below: their role app_user
-- has no privilege on any table, so the functions are all there is to check.
CREATE EXTENSION IF NOT EXISTS pgcrypto;
CREATE SCHEMA app;

CREATE TABLE app.users (
    id text PRIMARY KEY,
    name text NOT NULL,
    password text NOT NULL -- crypt(), never the password
);

CREATE TABLE app.conversations (
    id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    owner text NOT NULL UNIQUE REFERENCES app.users, -- a conversation per user
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.messages (
    id text PRIMARY KEY CHECK (length(id) BETWEEN 8 AND 64),
    conversation_id text NOT NULL REFERENCES app.conversations,
    role text NOT NULL CHECK (role IN ('user', 'assistant')),
    status text NOT NULL CHECK (status IN ('pending', 'generating', 'completed')),
    content text NOT NULL,
    question_id text REFERENCES public.messages, -- of an answer
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX messages_of_conversation ON public.messages (conversation_id, created_at);
CREATE INDEX messages_to_answer ON public.messages (created_at)
    WHERE role = 'assistant' AND status <> 'completed';
-- Whoever else comes to read it (a report, a role added later) sees nothing by default.
ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY;

-- --- Signing in ---

-- What auth tokens are signed with (COULOMB_AUTH_SECRET), and how long they live.
CREATE TABLE app.signing (secret text NOT NULL, lifetime interval NOT NULL DEFAULT '15 min');

CREATE FUNCTION app.base64url(data bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT translate(encode(data, 'base64'), E'+/=\n', '-_');
$$;

CREATE FUNCTION app.make_token(user_id text) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
    WITH parts AS (
        SELECT s.secret, floor(extract(epoch FROM now() + s.lifetime))::bigint AS exp,
               app.base64url('{"alg":"HS256","typ":"JWT"}') || '.' ||
               app.base64url(convert_to(json_build_object(
                   'sub', user_id, 'iat', floor(extract(epoch FROM now()))::bigint,
                   'exp', floor(extract(epoch FROM now() + s.lifetime))::bigint)::text, 'UTF8')) AS body
        FROM app.signing s)
    SELECT jsonb_build_object(
        'token', body || '.' || app.base64url(hmac(body, secret, 'sha256')),
        'expiresAt', exp,
        'user', (SELECT jsonb_build_object('id', u.id, 'name', u.name) FROM app.users u WHERE u.id = user_id),
        'conversationId', (SELECT c.id FROM app.conversations c WHERE c.owner = user_id))
    FROM parts;
$$;

CREATE FUNCTION app.sign_in(name text, password text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = app, public, pg_temp AS $$
DECLARE
    found text;
BEGIN
    SELECT u.id INTO found FROM users u
    WHERE lower(u.name) = lower(sign_in.name) AND u.password = crypt(sign_in.password, u.password);
    IF found IS NULL THEN
        RAISE EXCEPTION 'No such name and password' USING ERRCODE = 'PT401';
    END IF;
    INSERT INTO conversations (owner) VALUES (found) ON CONFLICT (owner) DO NOTHING;
    RETURN make_token(found);
END $$;

CREATE FUNCTION app.me() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT current_setting('request.jwt.claims', true)::jsonb ->> 'sub';
$$;

-- A token that is still good for one that is good for longer.
CREATE FUNCTION app.renew() RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = app, public, pg_temp AS $$
    SELECT make_token(u.id) FROM users u WHERE u.id = me();
$$;

-- --- Reading: who may see what ---

CREATE FUNCTION app.authorize_shape(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = app, public, pg_temp AS $$
DECLARE
    conversation text := request #>> '{params,conversationId}';
BEGIN
    IF request ->> 'table' <> 'messages' THEN
        RETURN NULL;
    END IF;
    IF conversation IS NULL THEN
        RETURN jsonb_build_object('table', 'messages', 'where', 'false');
    END IF;
    IF NOT EXISTS (SELECT FROM conversations c
                   WHERE c.id = conversation AND c.owner = claims ->> 'sub') THEN
        RETURN NULL;
    END IF;
    RETURN jsonb_build_object('table', 'messages', 'where', 'conversation_id = $1',
        'params', jsonb_build_array(conversation),
        'columns', jsonb_build_array('id', 'conversation_id', 'role', 'status', 'content',
                                     'created_at', 'updated_at'));
END $$;

-- --- Writing: a question and the place of its answer, in one transaction ---

CREATE FUNCTION app.send_question(conversation text, question_id text, answer_id text, content text)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = app, public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM conversations c WHERE c.id = conversation AND c.owner = me()) THEN
        RAISE EXCEPTION 'This conversation is not yours' USING ERRCODE = 'PT403';
    END IF;
    IF content !~ '\S' OR length(trim(content)) > 2000 THEN
        RAISE EXCEPTION 'A question has 1 to 2000 characters';
    END IF;
    INSERT INTO messages (id, conversation_id, role, status, content, question_id, created_at) VALUES
        (question_id, conversation, 'user', 'completed', trim(content), NULL, clock_timestamp()),
        (answer_id, conversation, 'assistant', 'pending', 'Generating answer...', question_id,
         clock_timestamp() + interval '1 ms');
    PERFORM pg_notify('questions', ''); -- the worker looks; what it finds is in the table
    RETURN '{}';
END $$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['app_user', 'app_anon'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; -- they belong to the cluster
        END;
    END LOOP;
END $$;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA app FROM PUBLIC;
GRANT USAGE ON SCHEMA app TO app_user, app_anon;
GRANT EXECUTE ON FUNCTION app.sign_in TO app_anon;
GRANT EXECUTE ON FUNCTION app.renew, app.authorize_shape, app.send_question TO app_user;

INSERT INTO app.users VALUES
    ('u-amira', 'Amira', crypt('lemon', gen_salt('bf'))),
    ('u-noor', 'Noor', crypt('coffee', gen_salt('bf')));
