// What the TypeScript SDKs of OpenAI are asked to do. The arguments are the package, the address and the key. Prints
// what happened as JSON.

const [name, baseURL, apiKey] = process.argv.slice(2);
const { default: OpenAI } = await import(name);
const { VERSION } = await import(`${name}/version`);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const ask = (text, fields = {}) => ({
  model: 'claude-3-7-sonnet-latest',
  messages: [{ role: 'user', content: text }],
  ...fields,
});
const weather = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'To get_weather',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' } },
      required: ['city'],
      additionalProperties: false,
    },
  },
};

async function whole() {
  const reply = await client.chat.completions.create(ask('Hi', { reasoning_effort: 'low' }));
  const { message, finish_reason } = reply.choices[0];
  return [reply.model, message.reasoning_content, message.content, finish_reason, reply._request_id?.slice(0, 4)];
}

async function streamed(text) {
  const deltas = [];
  try {
    for await (const chunk of await client.chat.completions.create(ask(text, { stream: true }))) {
      deltas.push(chunk.choices[0].delta.content ?? null);
    }
  } catch (error) {
    deltas.push(error.constructor.name);
  }
  return deltas;
}

// A conversation with a call in it, the stream's own message sent back as it came.
async function looked() {
  const tools = [weather];
  const fields = { tools, reasoning_effort: 'low', stream_options: { include_usage: true } };
  const chat = client.chat.completions;
  const stream = (chat.stream ? chat : client.beta.chat.completions).stream(ask('look at the weather', fields));
  const { choices, usage } = await stream.finalChatCompletion();
  const [{ message, finish_reason }] = choices;
  const [call] = message.tool_calls;
  const messages = [
    { role: 'user', content: 'look at the weather' },
    message,
    { role: 'tool', tool_call_id: call.id, content: 'It is warm.' },
  ];
  const { data, response } = await chat
    .create({ ...ask(''), messages, tools: [weather], reasoning_effort: 'low' })
    .withResponse();
  return {
    message: [message.reasoning_content, message.content, call.function.name, call.function.arguments, finish_reason],
    details: message.reasoning_details.map((detail) => [detail.type, detail.text, detail.format, detail.index]),
    usage: [usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens],
    again: data.choices[0].message.content,
    dropped: response.headers.get('sestet-dropped-thinking-blocks'),
  };
}

async function failed(fields, other = client) {
  try {
    await other.chat.completions.create(ask('Hi', fields));
  } catch (error) {
    return [error.constructor.name, error.status, error.param, (error.requestID ?? error.request_id).slice(0, 4)];
  }
}

console.log(
  JSON.stringify({
    version: VERSION,
    whole: await whole(),
    streamed: await streamed('Hi'),
    'failed half way': await streamed('fail half way'),
    looked: await looked(),
    refused: await failed({ n: 2 }),
    'unknown model': await failed({ model: 'nothing' }),
    'wrong key': await failed({}, new OpenAI({ baseURL, apiKey: 'sk-wrong', maxRetries: 0 })),
    models: [
      (await client.models.list()).data.length,
      (await client.models.retrieve('claude-3-7-sonnet-latest')).id,
    ],
  }),
);
