// The database of the write path's tests: rows that belong to people, of whom one may not write to
// all of them; a table that nobody may; functions of an app.
import { ROLES } from '../support/tokens.js';

export const WRITE_WORLD = `${ROLES}
    create table todos(id int primary key, owner text not null
        default current_setting('request.jwt.claims', true)::json ->> 'sub',
        title text not null constraint title_not_empty check (title <> ''),
        done bool not null default false, list int, note varchar(5), locked text,
        write_id text);
    create table lists(id int primary key);
    alter table todos add constraint todos_list foreign key (list) references lists;
    insert into lists values (1);
    alter table todos enable row level security;
    create policy own on todos using (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
    grant select, insert (id, owner, title, done, list, note, write_id),
        update (id, owner, title, done, list, note, write_id), delete on todos to coulomb_user;
    create table private(id int primary key);
    create table kinds(id int primary key, n numeric, j jsonb, js json, a int[], t text[], aj jsonb[],
        ts timestamptz, b bytea, u uuid, f float8, "We""ird, col" text);
    create table pairs(a int, b text, v text, primary key (a, b));
    create table keyless(v text);
    create table generated(id int primary key generated always as identity, v text);
    grant all on kinds, pairs, keyless, generated, lists to coulomb_user;
    create table counters(id int primary key, n int not null default 0);
    insert into counters select i, 0 from generate_series(1, 10) i;
    grant all on counters to coulomb_user;
    create schema app;
    grant usage on schema app to coulomb_user, coulomb_anonymous;
    create function app.add(a int, b int default 1) returns int language sql stable as 'select a + b';
    create function app.make(request jsonb) returns jsonb language sql as $$
        insert into todos(id, title) values ((request ->> 'id')::int, 'made')
        returning jsonb_build_object('made', id, 'success', false, 'txid', 'x') $$;
    create function app.nothing() returns void language sql as 'select';
    create function app.rows(n int) returns setof int language sql as 'select generate_series(1, n)';
    create function app.fails(state text) returns void language plpgsql as $$
        begin raise exception 'said by the app' using errcode = state, detail = 'secret detail'; end $$;
    create function app.who() returns text language sql as
        $$ select current_user || ' ' || (current_setting('request.jwt.claims')::json ->> 'sub') $$;
    create function app.twice(a int) returns int language sql as 'select a';
    create function app.twice(a text) returns text language sql as 'select a';
    create function app.closed() returns int language sql as 'select 1';
    revoke all on function app.closed from public;
    create function app.cross(a int, b int) returns void language plpgsql as $$
    begin
        update counters set n = n + 1 where id = a;
        perform pg_sleep(0.3);
        update counters set n = n + 1 where id = b;
    end $$;
    create function app.slow(s float) returns void language sql as 'select pg_sleep(s)';
    create function app.tables(names text[], meta jsonb) returns jsonb language sql as
        $$ select jsonb_build_object('n', names, 'm', meta) $$;
    create function public.outside() returns int language sql as 'select 1';`;

export const WRITE_ENV = {
    COULOMB_WRITE_ROLES: 'coulomb_user', COULOMB_ANONYMOUS_ROLE: 'coulomb_anonymous',
    COULOMB_RPC_SCHEMA: 'app',
};
