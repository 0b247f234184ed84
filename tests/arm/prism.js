'use strict';
// Stoplight's Prism as a proxy in front of what answers for Azure Resource Manager: 422 for a request and 500 for a response that the specification does
// not allow, everything else as it came.
//
//   node prism.js UPSTREAM_URL [PORT]     on a free port unless one is given; prints {"url"} when it is ready, and ends when its input does
//
// An https upstream with a test CA needs NODE_EXTRA_CA_CERTS. Prism itself speaks plain http, and compares paths with their case.

const fs = require('node:fs');
const path = require('node:path');
const { createLogger } = require('@stoplight/prism-core');
const { getHttpOperationsFromSpec } = require('@stoplight/prism-http');
const { createServer } = require('@stoplight/prism-http-server');

const SPECIFICATION = path.join(__dirname, 'arm-subset.strict.openapi.json');

/** The specification, in Prism's ways and stricter: an error has a code and a message. */
function specification() {
  const document = JSON.parse(fs.readFileSync(SPECIFICATION, 'utf8'));
  const { schemas } = document.components;
  schemas.ErrorResponse.required = ['error'];
  schemas.ErrorDetail.required = ['code', 'message'];
  // Null takes a user-assigned identity away.
  const { $ref } = schemas.Identity.properties.userAssignedIdentities.additionalProperties;
  schemas[$ref.split('/').pop()].nullable = true;
  // The SDK that this specification was derived from takes a registration without a body.
  document.paths['/subscriptions/{subscriptionId}/providers/{resourceProviderNamespace}/register'].post.requestBody.required = false;
  // Prism finds no path by its query, so one operation answers for both: with the operation's state, or with the resource when it is done.
  const [located] = Object.keys(document.paths).filter((name) => name.endsWith('?operationResultResponseType=Location'));
  const state = document.paths[located.replace(/\?.*/, '')].get.responses;
  const resource = document.paths[located].get.responses;
  delete document.paths[located];
  const outcomes = ['OperationResult', 'Cluster', 'Database', 'ClusterPrincipalAssignment', 'DatabasePrincipalAssignment'];
  state[200].content['application/json'].schema = { anyOf: outcomes.map((name) => ({ $ref: `#/components/schemas/${name}` })) };
  state[202] = resource[202];
  return document;
}

/** Promises the proxy: `url`, and `close()`. */
async function start(upstream, port = 0) {
  const operations = await getHttpOperationsFromSpec(specification());
  const config = { isProxy: true, upstream: new URL(upstream), validateRequest: true, validateResponse: true, checkSecurity: true, errors: true, mock: {} };
  const server = createServer(operations, { cors: false, config, components: { logger: createLogger('prism', { level: 'silent' }) } });
  return { url: await server.listen(port, '127.0.0.1'), close: () => server.close() };
}

async function main([upstream, port]) {
  const { url, close } = await start(upstream, Number(port ?? 0));
  console.log(JSON.stringify({ url }));
  process.stdin.resume().on('end', close);
}

if (require.main === module) main(process.argv.slice(2));

module.exports = { start };
