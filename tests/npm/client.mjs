// The official TypeScript SDK as a user of it would write a client: `node client.mjs handshake|modern < plan.json`.
//
// A plan has `command` (a list) and `env`, or `url`; `calls`, a list of [tool, arguments]; and, where somebody sits at
// the client, `answer`: what they say to every question. Prints what the SDK's user gets, as one JSON object.

import { text } from 'node:stream/consumers';

const ABOUT = { name: 'typescript', version: '1' };
const ERAS = { handshake, modern };

async function handshake(plan, asked) {
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
  const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
  const { ElicitRequestSchema } = await import('@modelcontextprotocol/sdk/types.js');
  const client = new Client(ABOUT, { capabilities: capabilities(plan) });
  if (plan.answer) client.setRequestHandler(ElicitRequestSchema, asked);
  return { client, transport: transport(plan, StdioClientTransport, StreamableHTTPClientTransport) };
}

async function modern(plan, asked) {
  const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
  const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
  const versionNegotiation = { mode: { pin: '2026-07-28' } };
  const client = new Client(ABOUT, { capabilities: capabilities(plan), versionNegotiation });
  if (plan.answer) client.setRequestHandler('elicitation/create', asked);
  return { client, transport: transport(plan, StdioClientTransport, StreamableHTTPClientTransport) };
}

function capabilities(plan) {
  return plan.answer ? { elicitation: {} } : {};
}

function transport(plan, Stdio, Http) {
  if (plan.url) return new Http(new URL(plan.url));
  const [command, ...args] = plan.command;
  return new Stdio({ command, args, env: plan.env, cwd: plan.cwd, stderr: 'ignore' });
}

async function called(client, name, args) {
  try {
    return await client.callTool({ name, arguments: args });
  } catch (error) {
    return { thrown: error.message, code: error.code };
  }
}

const plan = JSON.parse(await text(process.stdin));
const questions = [];
const asked = async (request) => {
  questions.push(request.params.message);
  return plan.answer;
};
const { client, transport: way } = await ERAS[process.argv[2]](plan, asked);
await client.connect(way);
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const answers = [];
for (const [name, args] of plan.calls) answers.push(await called(client, name, args));
await client.close();
process.stdout.write(JSON.stringify({ tools, answers, questions, server: client.getServerVersion()?.name }));
