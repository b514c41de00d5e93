// What the TypeScript SDKs for the clouds are asked to do: the same as the Python ones in ../cloud_cases.py. The first
// two arguments are the packages for Bedrock and Vertex, the third the server and the conversations as JSON.

import { readFileSync } from 'node:fs';

const { AnthropicBedrock, AnthropicBedrockMantle } = await import(process.argv[2]);
const { AnthropicVertex } = await import(process.argv[3]);
const told = JSON.parse(process.argv[4]);
const [AWS_ID, AWS_SECRET] = told.pair;
const BEDROCK = 'us.anthropic.claude-3-7-sonnet-20250219-v1:0';
const ARN = `arn:aws:bedrock:us-east-1:123456789012:inference-profile/${BEDROCK}`;
const VERTEX = 'claude-3-7-sonnet@20250219';
const OWN = 'claude-3-7-sonnet-latest';
const ENABLED = { type: 'enabled', budget_tokens: 1024 };

const options = (path, more) => ({ baseURL: `${told.url}${path}`, maxRetries: 0, awsRegion: 'us-east-1', ...more });
const bedrock = (more) => new AnthropicBedrock(options('', more));
const mantle = (more) => new AnthropicBedrockMantle(options('/anthropic', more));
const pair = (secret = AWS_SECRET) => ({ awsAccessKey: AWS_ID, awsSecretKey: secret });
const mantlePair = (secret = AWS_SECRET) => ({ awsAccessKey: AWS_ID, awsSecretAccessKey: secret });

function vertex(key = told.key, path = '/v1') {
  const authClient = {
    projectId: 'p',
    getRequestHeaders: async () => new Headers({ authorization: `Bearer ${key}` }),
  };
  return new AnthropicVertex({ baseURL: `${told.url}${path}`, maxRetries: 0, region: 'us-east5', projectId: 'p', authClient });
}

// Of each: a client that is let in, one that is not, and what it calls the model.
const CLIENTS = {
  bedrock: [bedrock({ apiKey: told.key }), bedrock({ apiKey: 'sk-wrong' }), BEDROCK],
  'bedrock signed': [bedrock(pair()), bedrock(pair('wrong')), ARN],
  vertex: [vertex(), vertex('sk-wrong'), VERTEX],
  'vertex without v1': [vertex(told.key, ''), vertex('sk-wrong', ''), OWN],
  mantle: [mantle({ apiKey: told.key }), mantle({ apiKey: 'sk-wrong' }), BEDROCK.replace('us.', '')],
  'mantle signed': [mantle(mantlePair()), mantle(mantlePair('wrong')), OWN],
};

const ask = (model, text, fields = {}) => ({
  model,
  max_tokens: 64,
  messages: [{ role: 'user', content: text }],
  ...fields,
});

const block = (one) =>
  one.type === 'thinking' ? ['thinking', one.thinking, one.signature !== '']
  : one.type === 'tool_use' ? ['tool_use', one.name, one.input]
  : [one.type, one.text];

const summary = (message) => ({
  content: message.content.map(block),
  stop: message.stop_reason,
  model: message.model,
  tokens: [message.usage.input_tokens, message.usage.output_tokens],
});

async function whole(client, model, text, fields) {
  const message = await client.messages.create(ask(model, text, fields));
  return { ...summary(message), request_id: (message._request_id ?? '').slice(0, 4) };
}

async function streamed(client, model, text, fields) {
  const types = [];
  const stream = client.messages.stream(ask(model, text, fields));
  for await (const event of stream) {
    if (event.type === 'content_block_delta') types.push(event.delta.type);
    else if (['message_start', 'message_stop'].includes(event.type)) types.push(event.type);
  }
  return { types, ...summary(await stream.finalMessage()) };
}

async function halfWay(client, model) {
  const deltas = [];
  try {
    for await (const event of await client.messages.create(ask(model, 'fail half way', { stream: true })))
      if (event.type === 'content_block_delta') deltas.push(event.delta.text);
  } catch (error) {
    return { deltas, type: error.error.error.type, message: error.error.error.message };
  }
  throw new Error('the stream did not fail');
}

async function failed(client, model, text = 'Hi', fields = {}) {
  try {
    await client.messages.create(ask(model, text, fields));
  } catch (error) {
    if (error.status === undefined) throw error;
    return {
      class: error.constructor.name,
      status: error.status,
      message: error.error.message ?? error.error.error.message,
      request_id: error.headers.get('request-id').slice(0, 4),
    };
  }
  throw new Error('the call did not fail');
}

const counted = async (client, model) =>
  (await client.messages.countTokens({ model, messages: [{ role: 'user', content: 'Hi' }] })).input_tokens;

function cases(client, wrong, model) {
  const thinking = { thinking: ENABLED, max_tokens: 2048 };
  const tools = { tools: [told.weather] };
  const older = told.older[client.constructor.name] ?? {};
  return {
    whole: () => whole(client, model, 'Hi'),
    streamed: () => streamed(client, model, 'Hi'),
    'many scripts': () => streamed(client, model, 'many scripts', thinking),
    thought: () => whole(client, model, 'Hi', thinking),
    call: () => whole(client, model, 'look at the weather', tools),
    'streamed call': () => streamed(client, model, 'look at the weather', tools),
    'older version': () => whole(client, model, 'Hi', older),
    beta: async () =>
      (await client.beta.messages.create({ ...ask(model, 'Hi'), betas: ['a-1', 'b-2'] })).content[0].text,
    silence: () => streamed(client, model, 'think it over'),
    'half way': () => halfWay(client, model),
    'fails at once': () => failed(client, model, 'fail at once'),
    'unknown model': () => failed(client, 'none'),
    'bad request': () => failed(client, model, 'Hi', { max_tokens: -1 }),
    'wrong credentials': () => failed(wrong, model),
    count: () => counted(client, model),
  };
}

async function outcome(call) {
  try {
    return await call();
  } catch (error) {
    return `${error.constructor.name}: ${error.message}`;
  }
}

const report = { version: JSON.parse(readFileSync(`node_modules/${process.argv[2]}/package.json`)).version };
await Promise.all(
  Object.entries(CLIENTS).flatMap(([name, client]) => {
    report[name] = {};
    return Object.entries(cases(...client)).map(async ([key, call]) => (report[name][key] = await outcome(call)));
  }),
);
console.log(JSON.stringify(report));
