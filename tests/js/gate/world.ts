// The database that the gatekeeper's tests share the shape of: two people, conversations of theirs,
// a table that nobody may see, and an authorising function as the docs have it.
import type { Suite } from '../support/suite.js';
import type { Reply } from '../support/http.js';
import { authToken, bearer, ROLES } from '../support/tokens.js';

export const WORLD = `${ROLES}
    create table messages(id int primary key, conversation_id text not null, content text,
        hidden text default 'nobody sees this');
    insert into messages values (1, 'c1', 'hello'), (2, 'c1', 'world'), (3, 'c2', 'other');
    create table members(conversation_id text, user_id text);
    insert into members values ('c1', 'amira'), ('c2', 'ben');
    create table secrets(id int primary key, v text);
    insert into secrets values (1, 'top secret');
    create schema app;
    grant usage on schema app to coulomb_user;
    create function app.authorize(claims jsonb, request jsonb) returns jsonb
    language plpgsql stable security definer set search_path = public, pg_temp as $$
    declare c text := request #>> '{params,conversationId}';
    begin
        if request ->> 'table' = 'boom' then raise exception 'row contents: top secret'; end if;
        if request ->> 'table' = 'raised' then
            raise exception 'no' using errcode = 'insufficient_privilege'; end if;
        if request ->> 'table' = 'garbage' then return '{"where": 7}'; end if;
        if request ->> 'table' = 'slow' then perform pg_sleep(60); end if;
        if request ->> 'table' = 'who' then
            return jsonb_build_object('table', 'messages', 'where', 'content = $1',
                'params', jsonb_build_array(current_setting('role') || ' ' ||
                    (current_setting('request.jwt.claims')::jsonb ->> 'sub')));
        end if;
        if request ->> 'table' <> 'messages' then return null; end if;
        if c is null then return '{"table": "messages", "where": "false"}'; end if;
        if not exists (select from members where conversation_id = c and user_id = claims ->> 'sub')
            then return null; end if;
        return jsonb_build_object('table', 'messages', 'where', 'conversation_id = $1 OR false',
            'params', jsonb_build_array(c), 'columns', jsonb_build_array('content', 'id', 'conversation_id'));
    end $$;
    revoke all on function app.authorize from public;
    grant execute on function app.authorize to coulomb_user;`;

export const WORLD_ENV = {
    COULOMB_GATE_FUNCTION: 'app.authorize',
    COULOMB_WRITE_ROLES: 'coulomb_user,coulomb_editor',
};

export function gate(suite: Suite) {
    const ask = (token: string | undefined, body: unknown, path = '/shapes/auth-token'): Promise<Reply> =>
        suite.server.get(path, { method: 'POST', body, headers: token ? bearer(token) : {} });
    const shape = (token: string | undefined, query = 'offset=-1', options = {}): Promise<Reply> =>
        suite.server.get(`/shape?${query}`, { headers: token ? bearer(token) : {}, ...options });
    const granted = async (sub = 'amira', conversationId: string | null = 'c1'): Promise<string> => {
        const params = conversationId === null ? {} : { conversationId };
        const reply = await ask(authToken(sub), { table: 'messages', params });
        if (reply.status !== 200) throw new Error(`status ${reply.status}: ${reply.text}`);
        return reply.json().token;
    };
    return { ask, shape, granted };
}

export const contents = (reply: Reply): string[] => {
    if (reply.status !== 200) throw new Error(`status ${reply.status}: ${reply.text}`);
    const body = reply.json();
    return (Array.isArray(body) ? body : body.data)
        .filter((m: any) => m.value).map((m: any) => m.value.content).sort();
};
