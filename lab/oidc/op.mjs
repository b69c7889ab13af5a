// The lab's OAuth judge: a certified authorization server with a form login, a protected resource and an oracle.
//
//   node op.mjs PORT ['{"redirect_uris":["http://127.0.0.1:8080/callback"]}']
//
// Loopback only, memory only. Prints one line of JSON when it answers. Every secret carries the marker `ktlab`.
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import http from 'node:http';

import Provider from 'oidc-provider';

const LOOPBACK = '127.0.0.1';
const SCOPES = ['openid', 'offline_access', 'records.read', 'records.write'];
const TENANT = 'lab';
const [port, given] = [Number(process.argv[2]), JSON.parse(process.argv[3] ?? '{}')];
const url = `http://${LOOPBACK}:${port}`;

const mint = () => `ktlab${randomBytes(24).toString('hex')}`;
const now = () => Date.now() / 1000;

// ---- memory: what the provider keeps, kept so that it can be listed -----------------------------------------------

const memory = new Map(); // "Model:id" -> { model, id, payload, expiresAt }

class MemoryAdapter {
  constructor(model) {
    this.model = model;
  }

  async upsert(id, payload, expiresIn) {
    const expiresAt = expiresIn ? now() + expiresIn : Infinity;
    memory.set(`${this.model}:${id}`, { model: this.model, id, payload, expiresAt });
  }

  async find(id) {
    const entry = memory.get(`${this.model}:${id}`);
    return entry && entry.expiresAt > now() ? entry.payload : undefined;
  }

  async findByUid(uid) {
    return this.#first((payload) => payload.uid === uid);
  }

  async findByUserCode(userCode) {
    return this.#first((payload) => payload.userCode === userCode);
  }

  #first(matches) {
    for (const { model, payload, expiresAt } of memory.values()) {
      if (model === this.model && expiresAt > now() && matches(payload)) return payload;
    }
    return undefined;
  }

  async consume(id) {
    memory.get(`${this.model}:${id}`).payload.consumed = Math.floor(now());
  }

  async destroy(id) {
    memory.delete(`${this.model}:${id}`);
  }

  async revokeByGrantId(grantId) {
    for (const [key, { model, payload }] of memory) {
      if (model === this.model && payload.grantId === grantId) memory.delete(key);
    }
  }
}

// ---- the server ---------------------------------------------------------------------------------------------------

const dials = { access_ttl_s: 3600, refresh_ttl_s: 14 * 24 * 3600, ...given.dials };
const initialAccessToken = mint();
const redirectUris = given.redirect_uris ?? [
  // RFC 8252 section 7.3: the port of a loopback address is the client's to choose.
  ...['/callback', '/oauth/callback', '/connect/callback'].flatMap((path) => [
    `http://127.0.0.1${path}`,
    `http://localhost${path}`,
  ]),
];
const clients = [
  {
    client_id: 'keyturn-lab-web',
    client_secret: mint(),
    application_type: 'native',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    redirect_uris: redirectUris,
    scope: SCOPES.join(' '),
  },
  {
    client_id: 'keyturn-lab-service',
    client_secret: mint(),
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    scope: 'records.read records.write',
  },
];

// A login `name@tenant` belongs to that tenant, so that tests can consent as somebody from elsewhere.
const tenantOf = (login) => login.split('@')[1] ?? TENANT;

const provider = new Provider(url, {
  adapter: MemoryAdapter,
  clients,
  clientDefaults: { token_endpoint_auth_method: 'client_secret_basic' },
  cookies: { keys: [mint()] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    registration: {
      enabled: true,
      initialAccessToken,
      idFactory: () => `lab-${randomBytes(8).toString('hex')}`,
      secretFactory: mint,
    },
    registrationManagement: { enabled: true, rotateRegistrationAccessToken: false },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: false },
  },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id, tenant: tenantOf(id) }) }),
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  jwks: { keys: [generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' })] },
  issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  pkce: { required: () => true },
  rotateRefreshToken: true,
  scopes: SCOPES,
  ttl: {
    AccessToken: () => dials.access_ttl_s,
    ClientCredentials: () => dials.access_ttl_s,
    RefreshToken: () => dials.refresh_ttl_s,
    AuthorizationCode: 60,
    Grant: 14 * 24 * 3600,
    IdToken: 3600,
    Interaction: 600,
    Session: 24 * 3600,
  },
});
provider.on('server_error', (_ctx, error) => console.error(error.name, error.message));

// ---- a person at a form -------------------------------------------------------------------------------------------

const page = (uid, prompt, body) => `<!doctype html><title>Lab sign-in</title><h1>${prompt}</h1>
<form method="post" action="/interaction/${uid}">${body}
<button name="answer" value="yes">Continue</button> <button name="answer" value="no">Decline</button></form>`;
const escape = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

async function readBody(req) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

async function showForm(req, res) {
  const { uid, prompt, params } = await provider.interactionDetails(req, res);
  const asked = escape(`${params.client_id} asks for ${params.scope}`);
  const kept = (prompt.details.missingOIDCScope ?? [])
    .map((scope) => `<label><input type="checkbox" name="without" value="${escape(scope)}">not ${escape(scope)}</label> `);
  const body = prompt.name === 'login'
    ? '<label>Login <input name="login" required></label>'
    : `<p>${asked}</p><p>${kept.join('')}</p>`;
  res.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page(uid, prompt.name, body));
}

async function takeForm(req, res) {
  const details = await provider.interactionDetails(req, res);
  const form = new URLSearchParams(await readBody(req));
  let result;
  if (form.get('answer') !== 'yes') {
    result = { error: 'access_denied', error_description: 'The person declined' };
  } else if (details.prompt.name === 'login') {
    result = { login: { accountId: form.get('login') } };
  } else {
    const { grantId, params, session, prompt } = details;
    const grant = grantId
      ? await provider.Grant.find(grantId)
      : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    const without = form.getAll('without'); // a person may allow less than was asked for
    for (const scope of prompt.details.missingOIDCScope ?? []) {
      if (without.includes(scope)) grant.rejectOIDCScope(scope);
      else grant.addOIDCScope(scope);
    }
    result = { consent: { grantId: await grant.save() } };
  }
  await provider.interactionFinished(req, res, result, { mergeWithLastSubmission: true });
}

// ---- a resource behind the tokens ---------------------------------------------------------------------------------

// The live token of a request; when there is none, the refusal is sent.
async function admitted(req, res) {
  const value = /^Bearer (.+)$/i.exec(req.headers.authorization ?? '')?.[1] ?? '';
  const token = (await provider.AccessToken.find(value)) ?? (await provider.ClientCredentials.find(value));
  if (token?.isValid && (await provider.Client.find(token.clientId))) return token;
  const challenge = value ? 'Bearer error="invalid_token"' : 'Bearer';
  sendJson(res, 401, { error: 'invalid_token' }, { 'www-authenticate': challenge });
  return undefined;
}

async function me(req, res) {
  const token = await admitted(req, res);
  if (!token) return;
  const who = token.accountId
    ? { sub: token.accountId, client_id: token.clientId, tenant: tenantOf(token.accountId) }
    : { client_id: token.clientId, tenant: TENANT };
  sendJson(res, 200, { ...who, scope: token.scope ?? '' });
}

// A list behind the tokens: what a job would read.
const RECORDS = ['one', 'two', 'three'];

async function records(req, res) {
  const token = await admitted(req, res);
  if (!token) return;
  if (!(token.scope ?? '').split(' ').includes('records.read')) {
    sendJson(res, 403, { error: 'insufficient_scope' });
    return;
  }
  const limit = Number(new URL(req.url, url).searchParams.get('limit') ?? RECORDS.length);
  sendJson(res, 200, { records: RECORDS.slice(0, limit).map((name) => ({ name })) });
}

function sendJson(res, status, body, headers = {}) {
  res.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers });
  res.end(body === undefined ? '' : JSON.stringify(body));
}

// ---- faults and the oracle ----------------------------------------------------------------------------------------

const FAULTS = ['answer_lost', 'error_not_applied', 'throttle'];
const OPS = { '/token': 'token', '/token/revocation': 'revocation', '/token/introspection': 'introspection', '/me-api': 'me', '/records-api': 'records' };
let armed = [];

function opOf(req) {
  const path = req.url.split('?')[0];
  if (path === '/reg') return 'register';
  if (path.startsWith('/reg/')) return req.method === 'DELETE' ? 'unregister' : 'registration';
  return OPS[path] ?? 'other';
}

function takeFault(op) {
  const fault = armed.find((each) => each.op === op || (each.op === '*' && op !== 'other'));
  if (fault && (fault.times -= 1) <= 0) armed = armed.filter((each) => each !== fault);
  return fault?.kind;
}

function loseAnswer(res) {
  const { socket } = res;
  res.write = () => true;
  res.end = () => socket.destroy();
}

// In the shape all stand-ins use: what would be accepted right now.
async function alive() {
  const live = [];
  const add = (id, kind, owner, value, facts) =>
    live.push({ id, kind, owner, value, facts, sha256: createHash('sha256').update(value).digest('hex') });
  for (const client of clients) add(client.client_id, 'client', client.client_id, client.client_secret, { static: true });
  for (const { model, id, payload, expiresAt } of memory.values()) {
    if (expiresAt <= now() || payload.consumed) continue;
    if (model === 'Client') {
      add(id, 'client', id, payload.client_secret ?? '', { static: false, client_name: payload.client_name });
    } else if (['AccessToken', 'ClientCredentials', 'RefreshToken'].includes(model)) {
      const token = await provider[model].find(id);
      if (token?.isValid && (await provider.Client.find(payload.clientId))) {
        const owner = payload.accountId ?? payload.clientId;
        add(payload.jti, model, owner, id, { client_id: payload.clientId, grant_id: payload.grantId, scope: payload.scope });
      }
    } else if (model === 'Grant') {
      add(id, 'Grant', payload.accountId, id, { client_id: payload.clientId });
    }
  }
  return live;
}

async function admin(req, res) {
  const name = req.url.slice('/_lab/'.length);
  const body = req.method === 'POST' ? JSON.parse((await readBody(req)) || 'null') : undefined;
  if (name === 'alive') return sendJson(res, 200, await alive());
  if (name === 'dials') return sendJson(res, 200, Object.assign(dials, body));
  if (name === 'faults' && req.method === 'DELETE') {
    armed = [];
    return sendJson(res, 204);
  }
  if (name === 'faults' && req.method === 'POST') {
    if (!body.every(({ op, kind }) => op && FAULTS.includes(kind))) return sendJson(res, 422, { kinds: FAULTS });
    armed.push(...body.map((fault) => ({ times: 1, ...fault })));
    return sendJson(res, 204);
  }
  return sendJson(res, 404, { error: 'not_found' });
}

// ---- the door -----------------------------------------------------------------------------------------------------

const answerAsProvider = provider.callback();

async function answer(req, res) {
  if (req.url.startsWith('/_lab/')) return admin(req, res);
  const fault = takeFault(opOf(req));
  if (fault === 'throttle') return sendJson(res, 429, { error: 'temporarily_unavailable' }, { 'retry-after': '1' });
  if (fault === 'error_not_applied') return sendJson(res, 500, { error: 'server_error' });
  if (fault === 'answer_lost') loseAnswer(res);
  if (req.url.startsWith('/interaction/')) return req.method === 'POST' ? takeForm(req, res) : showForm(req, res);
  if (req.url === '/me-api') return me(req, res);
  if (req.url.split('?')[0] === '/records-api') return records(req, res);
  return answerAsProvider(req, res);
}

const server = http.createServer((req, res) => {
  answer(req, res).catch((error) => {
    if (res.headersSent) return res.destroy();
    return sendJson(res, error.statusCode ?? 500, { error: error.error ?? error.name });
  });
});

// Registered over the wire, so that it can be deleted there too: the one to rotate.
async function registerMachine() {
  const answered = await fetch(`${url}/reg`, {
    method: 'POST',
    headers: { authorization: `Bearer ${initialAccessToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      client_name: 'keyturn-lab-machine',
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
      scope: 'records.read records.write',
    }),
  });
  const made = await answered.json();
  if (!answered.ok) throw new Error(`registration answered ${answered.status} ${made.error}`);
  return made;
}

server.listen(port, LOOPBACK, async () => {
  const machine = await registerMachine();
  console.log(JSON.stringify({ url, initial_access_token: initialAccessToken, clients: [...clients, machine] }));
});
