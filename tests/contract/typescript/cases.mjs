// What the TypeScript SDKs are asked to do: the same as the Python ones in ../sdk_cases.py. The first argument is the
// package, the second the servers' addresses as JSON. Prints what happened as JSON.

const { default: Anthropic } = await import(process.argv[2]);
const { VERSION } = await import(`${process.argv[2]}/version`);
const { betaTool } = await import(`${process.argv[2]}/helpers/beta/json-schema`);
const { jsonSchemaOutputFormat } = await import(`${process.argv[2]}/helpers/json-schema`);
const servers = JSON.parse(process.argv[3]);
const MODEL = 'claude-3-7-sonnet-latest';
const OWN_MODEL = 'scripted-20260101';
const VERSIONS = ['2023-06-01', '2026-10-21'];
const REDACT = servers.redact;
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

// The same question three times; nobody else has its system prompt.
async function cached() {
  const handbook = crypto.randomUUID().padEnd(2000, 'x');
  const system = [{ type: 'text', text: handbook, cache_control: { type: 'ephemeral', ttl: '1h' } }];
  const written = await talkative.messages.create(ask('Hi', { system }));
  const read = await talkative.messages.create(ask('Hi', { system }));
  const streamed = await talkative.messages.stream(ask('Hi', { system })).finalMessage();
  return [written, read, streamed].map(({ usage }) => [
    usage.input_tokens,
    usage.cache_creation_input_tokens,
    usage.cache_creation.ephemeral_5m_input_tokens,
    usage.cache_creation.ephemeral_1h_input_tokens,
    usage.cache_read_input_tokens,
  ]);
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

const ENABLED = { type: 'enabled', budget_tokens: 1024 };
const OMITTED = { ...ENABLED, display: 'omitted' };
const ADAPTIVE = { type: 'adaptive' };

// Every way to say how to think: fields of the request.
const FORMS = {
  absent: {},
  disabled: { thinking: { type: 'disabled' } },
  between_tools: { thinking: { type: 'between_tools' } },
  enabled: { thinking: ENABLED },
  'enabled summarized': { thinking: { ...ENABLED, display: 'summarized' } },
  'enabled omitted': { thinking: OMITTED },
  adaptive: { thinking: ADAPTIVE },
  'adaptive summarized': { thinking: { ...ADAPTIVE, display: 'summarized' } },
  'adaptive omitted': { thinking: { ...ADAPTIVE, display: 'omitted' } },
  'adaptive with effort': { thinking: ADAPTIVE, output_config: { effort: 'low' } },
  'effort without thinking': { output_config: { effort: 'max' } },
};

// A block as a test can foresee it: what is sealed is only told to be there.
function block(one) {
  if (one.type === 'thinking') return ['thinking', one.thinking, Boolean(one.signature)];
  if (one.type === 'redacted_thinking') return ['redacted_thinking', Boolean(one.data)];
  if (one.type === 'tool_use') return ['tool_use', one.id.slice(0, 6), one.name, one.input];
  return ['text', one.text];
}

const thought = ({ content, stop_reason, stop_sequence, usage }) => ({
  content: content.map(block),
  stop: [stop_reason, stop_sequence],
  tokens: [usage.input_tokens, usage.output_tokens, usage.output_tokens_details.thinking_tokens],
});

// The same question, whole and through the helper, whose own events are told too.
async function think(text, fields, sdk = talkative, options = {}) {
  const asked = ask(text, { max_tokens: 2048, ...fields });
  const whole = thought(await sdk.messages.create(asked, options));
  const events = [];
  const stream = sdk.messages
    .stream(asked, options)
    .on('thinking', (delta) => events.push(['thinking', delta]))
    .on('signature', (signature) => events.push(['signature', Boolean(signature)]))
    .on('inputJson', (delta) => events.push(['input_json', delta]))
    .on('text', (delta) => events.push(['text', delta]));
  return { whole, events, streamed: thought(await stream.finalMessage()) };
}

async function forms(version) {
  const options = { headers: { 'anthropic-version': version } };
  const told = {};
  for (const [name, form] of Object.entries(FORMS)) {
    told[name] = await think('Hi', { model: OWN_MODEL, ...form }, talkative, options);
  }
  return told;
}

// What is asked turn after turn, how, and whether through the helper.
const TURNS = [
  ['First', { thinking: ENABLED }, false],
  ['Second', { thinking: { type: 'disabled' } }, true],
  ['Third', { thinking: OMITTED }, true],
  ['Fourth', { thinking: ADAPTIVE }, false],
  [`Fifth ${REDACT}`, { thinking: ENABLED }, true],
  ['Sixth', { thinking: ENABLED }, false],
  ['Seventh', {}, true],
];

// Every reply goes back as it came, and once more without what is no text.
async function transcript(sdk) {
  const history = [];
  const bare = [];
  const turns = [];
  for (const [text, form, streamed] of TURNS) {
    for (const messages of [history, bare]) messages.push({ role: 'user', content: text });
    const asked = { model: OWN_MODEL, system: 'Be brief', ...form };
    const counts = [];
    for (const messages of [history, bare]) {
      counts.push((await sdk.messages.countTokens({ ...asked, messages })).input_tokens);
    }
    const full = { ...asked, max_tokens: 2048, messages: history };
    const message = streamed ? await sdk.messages.stream(full).finalMessage() : await sdk.messages.create(full);
    history.push({ role: 'assistant', content: message.content });
    const texts = message.content.filter((one) => one.type === 'text').map(({ type, text }) => ({ type, text }));
    bare.push({ role: 'assistant', content: texts });
    turns.push([message.content.map((one) => one.type), ...counts, message.usage.input_tokens]);
  }
  return turns;
}

const FOREIGN = [
  { type: 'thinking', thinking: 'Made elsewhere', signature: 'bm90IG9uZSBvZiBvdXJz' },
  { type: 'redacted_thinking', data: '' },
  { type: 'text', text: 'Hello' },
];

const withHistory = (content) => ({
  ...ask(''),
  messages: [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content },
    { role: 'user', content: 'Bye' },
  ],
});

// How many thoughts were left out, whole and streamed, and what was counted.
async function foreign() {
  const asked = withHistory(FOREIGN);
  const whole = await talkative.messages.create(asked).withResponse();
  const stream = talkative.messages.stream(asked);
  const streamed = await stream.finalMessage();
  const { response } = await stream.withResponse();
  const name = 'sestet-dropped-thinking-blocks';
  return [
    whole.response.headers.get(name),
    response.headers.get(name),
    whole.data.usage.input_tokens,
    streamed.usage.input_tokens,
  ];
}

async function changed(change) {
  const { content } = await talkative.messages.create(ask('Hi', { max_tokens: 2048, thinking: ENABLED }));
  return talkative.messages.create(withHistory([{ ...content[0], ...change }, ...content.slice(1)]));
}

async function failedInTheThought() {
  const deltas = [];
  const asked = ask('fail in the thought', { max_tokens: 2048, thinking: ENABLED });
  const stream = talkative.messages.stream(asked).on('thinking', (delta) => deltas.push(delta));
  let last;
  stream.on('streamEvent', (_, snapshot) => (last = snapshot));
  try {
    await stream.finalMessage();
  } catch (error) {
    return { deltas, type: error.error.error.type, content: last.content.map(block) };
  }
  return null;
}

async function capabilities(name) {
  const { effort, structured_outputs, thinking } = (await talkative.models.retrieve(name)).capabilities;
  return { effort, structured_outputs, thinking };
}

const WEATHER = [servers.weather];
const SUMS = servers.sums;
const GET_TIME = { name: 'get_time', input_schema: { type: 'object' } };

// Every number of a whole and of a streamed call, as they were written: this language has no such numbers.
async function digits() {
  const asked = ask('large numbers', { tools: SUMS });
  const body = await (await talkative.messages.create(asked).asResponse()).text();
  const pieces = [];
  await talkative.messages.stream(asked).on('inputJson', (delta) => pieces.push(delta)).finalMessage();
  return [body.match(/"input":\{.*?\}/)[0], pieces.join('')].map((text) => text.match(/\d+/g));
}

async function failedInTheCall(text) {
  const events = [];
  const stream = talkative.messages
    .stream(ask(text, { tools: SUMS }))
    .on('text', (delta) => events.push(['text', delta]))
    .on('inputJson', (delta) => events.push(['input_json', delta]));
  let last;
  stream.on('streamEvent', (_, snapshot) => (last = snapshot));
  try {
    await stream.finalMessage();
  } catch (error) {
    return { events, type: error.error.error.type, content: last.content.map(block) };
  }
  return null;
}

const RESULTS = {
  add: ({ a, b }) => `the sum is ${a + b}`,
  multiply: ({ a, b }) => `the product is ${a * b}`,
  subtract: ({ a, b }) => `the difference is ${a - b}`,
};

// An agent by hand: calls are answered until there are none, and once more something is asked. Every prompt is
// counted before it is sent.
async function loop(streamed, fields = {}) {
  const messages = [{ role: 'user', content: 'begin the sums' }];
  const rounds = [];
  for (const question of ['And then?', null]) {
    let calls;
    do {
      const asked = { model: OWN_MODEL, messages, tools: SUMS, ...fields };
      const counted = (await talkative.messages.countTokens(asked)).input_tokens;
      const full = { ...asked, max_tokens: 2048 };
      const message =
        streamed ? await talkative.messages.stream(full).finalMessage() : await talkative.messages.create(full);
      calls = message.content.filter((one) => one.type === 'tool_use');
      messages.push({ role: 'assistant', content: message.content });
      const results = calls.map(({ id, name, input }) => ({
        type: 'tool_result',
        tool_use_id: id,
        content: RESULTS[name](input),
      }));
      if (calls.length) messages.push({ role: 'user', content: results });
      rounds.push([message.content.map(block), message.stop_reason, counted - message.usage.input_tokens]);
    } while (calls.length);
    messages.push({ role: 'user', content: question });
  }
  return rounds;
}

// The SDK's own agent.
async function runner(stream, fields = {}) {
  const tools = SUMS.map(({ name, description, input_schema }) =>
    betaTool({ name, description, inputSchema: input_schema, run: RESULTS[name] }),
  );
  const found = talkative.beta.messages.toolRunner({
    model: OWN_MODEL,
    max_tokens: 2048,
    messages: [{ role: 'user', content: 'begin the sums' }],
    tools,
    stream,
    ...fields,
  });
  const rounds = [];
  for await (const one of found) {
    const message = stream ? await one.finalMessage() : one;
    rounds.push([message.content.map(block), message.stop_reason]);
  }
  return rounds;
}

const PERSON = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer' } },
  required: ['name', 'age'],
  additionalProperties: false,
};
const FORMAT = { type: 'json_schema', schema: PERSON };

// Lengths and bounds are checked by the client, which leaves them out of the schema that it sends.
const CHECKED = {
  ...PERSON,
  properties: { name: { type: 'string', maxLength: 40 }, age: { type: 'integer', minimum: 0 } },
};

async function parsed(fields = {}) {
  const format = jsonSchemaOutputFormat(CHECKED);
  const asked = ask('who is she', { max_tokens: 2048, output_config: { format }, ...fields });
  const messages = [await talkative.messages.parse(asked), await talkative.messages.stream(asked).finalMessage()];
  return messages.map(({ content, parsed_output, stop_reason }) => [content.map(block), parsed_output, stop_reason]);
}

// A format given by hand, under its name of today or the older one.
async function formatted(fields) {
  const { content, stop_reason } = await talkative.messages.create(ask('who is she', fields));
  return [content.map(block), stop_reason];
}

// A conversation in which a tool was called and these results were sent back.
function called(results = 'Well?') {
  const use = { type: 'tool_use', id: 'toolu_1', name: 'add', input: { a: 1, b: 2 } };
  const messages = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: [use] },
    { role: 'user', content: results },
  ];
  return () => talkative.messages.create(ask('', { messages, tools: SUMS }));
}

const SEARCH = { type: 'web_search_20250305', name: 'web_search' };
const FORCED = { tool_choice: { type: 'any' }, tools: SUMS, max_tokens: 2048 };
const WRONG = { ...FORMAT, schema: { ...PERSON, minProperties: 1 } };

// What a case tells; one that breaks must not hide the others.
async function outcome(run) {
  try {
    return await run();
  } catch (error) {
    return { raised: `${error.constructor.name}: ${error.message}` };
  }
}

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
  cached,
  forms_old: () => forms(VERSIONS[0]),
  forms_new: () => forms(VERSIONS[1]),
  thought_on_a_card: () => think('Hi', { thinking: ENABLED }),
  thought_of_many_scripts: () => think('many scripts', { thinking: ENABLED }),
  thought_stopped: () => think('stop at a word', { thinking: ENABLED, stop_sequences: ['STOP'] }),
  thought_never_ended: () => think('never stop thinking', { thinking: OMITTED }),
  no_thought: () => think('no thought at all', { thinking: ENABLED }),
  nothing_but_a_thought: () => think('nothing but a thought', { thinking: ENABLED }),
  redacted_on_demand: () => think(`Hi ${REDACT}`, { thinking: ENABLED }),
  redacted_always: () => think('Hi', { thinking: OMITTED }, client(servers.redacting_url)),
  transcript: () => transcript(talkative),
  redacted_transcript: () => transcript(client(servers.redacting_url)),
  foreign_thoughts: foreign,
  changed_thought: () => failed(() => changed({ thinking: 'Let me see!' })),
  changed_signature: () => failed(() => changed({ signature: 'U3N0MQ==' })),
  small_budget: () =>
    failed(own(servers.url, 'any', 'Hi', { thinking: { ...ENABLED, budget_tokens: 1023 }, max_tokens: 2048 })),
  failed_in_the_thought: failedInTheThought,
  capabilities: () => Promise.all([OWN_MODEL, MODEL, 'claude-3-haiku-20240307'].map(capabilities)),
  call: () => think('look at the weather', { tools: WEATHER }),
  call_after_a_thought: () => think('look at the weather', { tools: WEATHER, thinking: ENABLED }),
  two_calls: () => think('look twice', { tools: WEATHER }),
  empty_call: () => think('call without a word', { tools: [GET_TIME] }),
  forced_call: () => think('call without a word', { tools: [GET_TIME], tool_choice: { type: 'any' } }),
  no_call: () => think('Hi', { tools: WEATHER, tool_choice: { type: 'none' } }),
  cut_call: () => think('look at the weather', { tools: WEATHER, max_tokens: 8 }),
  digits,
  failed_in_the_call: () => failedInTheCall('fail in the call'),
  broken_call: () => failedInTheCall('break the call'),
  loop: () => loop(false),
  streamed_loop: () => loop(true),
  thinking_loop: () => loop(false, { thinking: ENABLED }),
  streamed_thinking_loop: () => loop(true, { thinking: ENABLED }),
  runner: () => runner(false),
  streamed_runner: () => runner(true),
  thinking_runner: () => runner(false, { thinking: ENABLED }),
  parsed: () => parsed(),
  parsed_after_a_thought: () => parsed({ thinking: ENABLED }),
  formatted: () => formatted({ output_config: { format: FORMAT } }),
  formatted_as_of_old: () => formatted({ output_format: FORMAT }),
  unanswered_call: () => failed(called()),
  answer_to_another_call: () => failed(called([{ type: 'tool_result', tool_use_id: 'toolu_2', content: '3' }])),
  server_tool: () => failed(own(servers.url, 'any', 'Hi', { tools: [SEARCH] })),
  forced_beside_thinking: () => failed(own(servers.url, 'any', 'Hi', { thinking: ENABLED, ...FORCED })),
  wrong_schema: () => failed(own(servers.url, 'any', 'Hi', { output_config: { format: WRONG } })),
};

const outcomes = await Promise.all(Object.entries(cases).map(async ([name, run]) => [name, await outcome(run)]));
console.log(JSON.stringify({ version: VERSION, ...Object.fromEntries(outcomes) }));
