'use strict';
// Has recorded exchanges with Azure Resource Manager judged by Prism: each is had again through the proxy, from a server that gives the recorded answer.
//
//   node prism-recordings.js RECORDING...     exit codes as those of oav.js
//   node prism-recordings.js --controls

const http = require('node:http');
const { once } = require('node:events');

const { run } = require('./judging.js');
const prism = require('./prism.js');

/** The token endpoint and the instance metadata service are not Azure Resource Manager's. */
const isJudged = (pathname) => /^\/(subscriptions|providers)(\/|$)/i.test(pathname);

// What belongs to the recorded connection and not to what was said.
const OF_THE_CONNECTION = new Set(['accept-encoding', 'connection', 'content-encoding', 'content-length', 'expect', 'host', 'keep-alive', 'transfer-encoding']);

const headersOf = ({ headers = {} }) => Object.entries(headers).filter(([name]) => !OF_THE_CONNECTION.has(name.toLowerCase()));

const textOf = ({ body }) => (body === undefined || body === null ? '' : JSON.stringify(body));

/** What Prism says in place of the recorded answer. */
function complaints(status, { type = '', detail, validation = [] }) {
  if (!type.startsWith('https://stoplight.io/prism/errors#')) throw new Error(`Prism answers ${status}, and does not say why`);
  const side = type.endsWith('#VIOLATIONS') ? 'response' : 'request';
  if (validation.length === 0) return [{ side, what: detail }];
  return validation.map(({ message }) => ({ side, what: message }));
}

async function main() {
  let recorded;
  const upstream = http.createServer((request, response) => {
    // Prism reads JSON from an answer that says it is JSON, though the one to HEAD has no body.
    const headers = headersOf(recorded).filter(([name]) => request.method !== 'HEAD' || name.toLowerCase() !== 'content-type');
    request.resume().on('end', () => response.writeHead(recorded.statusCode, headers.flat()).end(textOf(recorded)));
  });
  await once(upstream.listen(0, '127.0.0.1'), 'listening');
  const proxy = await prism.start(`http://127.0.0.1:${upstream.address().port}`);
  try {
    return await run('prism', isJudged, async ({ request, response }) => {
      recorded = response;
      const { pathname, search } = new URL(request.url, 'https://management.azure.com');
      const body = textOf(request) || undefined;
      const answer = await fetch(`${proxy.url}${prism.locatedPath(pathname, search)}${search}`, { method: request.method, headers: headersOf(request), body });
      const text = await answer.text();
      const isPrisms = answer.headers.get('content-type') === 'application/problem+json';
      return isPrisms ? complaints(answer.status, JSON.parse(text)) : [];
    });
  } finally {
    await proxy.close();
    upstream.closeAllConnections();
    upstream.close();
  }
}

main().then((code) => {
  process.exitCode = code;
});
