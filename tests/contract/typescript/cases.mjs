// What the TypeScript SDKs are asked to do: the same as the Python ones in ../sdk_cases.py. The first argument is the
// package, the second the servers' addresses as JSON. Prints what happened as JSON.

const { default: Anthropic } = await import(process.argv[2]);
const { VERSION } = await import(`${process.argv[2]}/version`);
const servers = JSON.parse(process.argv[3]);
const MODEL = 'claude-3-7-sonnet-latest';
const TOO_LARGE = 'x'.repeat(32 * 1024 * 1024 + 1);

const client = (baseURL, apiKey = 'any') => new Anthropic({ baseURL, apiKey, maxRetries: 0 });
const ask = (text, fields = {}) => ({
  model: MODEL,
  max_tokens: 64,
  messages: [{ role: 'user', content: text }],
  ...fields,
});
const talkative = client(servers.url);

const told = (message) => ({
  model: message.model,
  text: message.content.map((block) => block.text),
  stop_reason: message.stop_reason,
  stop_sequence: message.stop_sequence,
  tokens: [message.usage.input_tokens, message.usage.output_tokens],
});

async function whole(text, fields) {
  const message = await talkative.messages.create(ask(text, fields));
  return { ...told(message), request_id: (message._request_id ?? '').slice(0, 4) };
}

async function rawStream(text) {
  const types = [];
  for await (const event of await talkative.messages.create(ask(text, { stream: true }))) types.push(event.type);
  return types;
}

async function helper(text, fields) {
  const deltas = [];
  const stream = talkative.messages.stream(ask(text, fields)).on('text', (delta) => deltas.push(delta));
  return { deltas, ...told(await stream.finalMessage()) };
}

async function failed(call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof Anthropic.APIError)) throw error;
    return {
      class: error.constructor.name,
      status: error.status,
      type: error.error.error.type,
      request_id: error.error.request_id.slice(0, 4),
      told_in_header: error.requestID === error.error.request_id,
    };
  }
  return null;
}

async function halfWay() {
  const deltas = [];
  try {
    await talkative.messages.stream(ask('fail half way')).on('text', (delta) => deltas.push(delta)).finalMessage();
  } catch (error) {
    return { deltas, type: error.error.error.type };
  }
  return { deltas, type: null };
}

async function headers() {
  const { data, response } = await talkative.messages.create(ask('Hi')).withResponse();
  return {
    request_id: response.headers.get('request-id').slice(0, 4),
    served_by: response.headers.get('sestet-served-by'),
    text: data.content[0].text,
  };
}

async function sampling(version) {
  const options = version ? { headers: { 'anthropic-version': version } } : {};
  try {
    return (await talkative.messages.create(ask('Hi', { temperature: 0.5 }), options)).content[0].text;
  } catch (error) {
    if (!(error instanceof Anthropic.BadRequestError)) throw error;
    return error.error.error.message.split(':')[0];
  }
}

async function listed(query) {
  const ids = [];
  for await (const model of talkative.models.list(query)) ids.push(model.id);
  return ids;
}

async function retrieved(name) {
  const { id, created_at, type } = await talkative.models.retrieve(name);
  return { id, created_at, type };
}

const own = (url, key, text = 'Hi', fields = {}) => () => client(url, key).messages.create(ask(text, fields));

const cases = {
  whole: () => whole('Hi'),
  stop_sequence: () => whole('stop at a word', { stop_sequences: ['STOP'] }),
  max_tokens: () => whole('count to five', { max_tokens: 3 }),
  zero_tokens: () => whole('Hi', { max_tokens: 0 }),
  nothing: () => helper('say nothing'),
  raw_stream: () => rawStream('Hi'),
  stream: () => helper('Hi'),
  many_scripts: () => helper('many scripts'),
  stopped_stream: () => helper('stop at a word', { stop_sequences: ['STOP'] }),
  silence: () => helper('think it over'),
  window: async () => told(await client(servers.small_window_url).messages.create(ask('Hi'))),
  count: async () =>
    (await talkative.messages.countTokens({ model: MODEL, messages: ask('Hi').messages })).input_tokens,
  models: () => listed({ limit: 3 }),
  models_backwards: () => listed({ limit: 3, before_id: 'claude-3-haiku-20240307' }),
  model: () => retrieved('claude-3-7-sonnet-latest'),
  headers,
  own_sampling: () => sampling(null),
  old_sampling: () => sampling('2023-06-01'),
  right_key: async () =>
    (await client(servers.keys_url, 'sk-right-key').messages.create(ask('Hi'))).content[0].text,
  bad_request: () => failed(own(servers.url, 'any', 'Hi', { max_tokens: -1 })),
  wrong_key: () => failed(own(servers.keys_url, 'sk-wrong')),
  unknown_model: () => failed(own(servers.url, 'any', 'Hi', { model: 'claude-9' })),
  too_large: () => failed(own(servers.url, 'any', TOO_LARGE)),
  overloaded: () => failed(own(servers.busy_url)),
  failed_at_once: () => failed(() => helper('fail at once')),
  failed_half_way: halfWay,
};

const outcomes = await Promise.all(Object.entries(cases).map(async ([name, run]) => [name, await run()]));
console.log(JSON.stringify({ version: VERSION, ...Object.fromEntries(outcomes) }));
