// Runs a pipeline of a Mainstay service and shows what came of it: once well, twice failing.
//
// usage: client.js ADDRESS DOCUMENT

import { randomBytes, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const PIPELINE = 'entity-report';
// What the caller waits for the whole run, recovery included. A run with an idempotency key goes on
// after that: the same call finds it again.
const DEADLINE_MS = 60_000;

// Read when the program starts: no code is generated. Enums come as their names, 64-bit numbers as
// text, and an absent message as null.
const definitions = protoLoader.loadSync(
  ['mainstay/v1/pipeline_service.proto', 'google/rpc/status.proto', 'google/rpc/error_details.proto'],
  {
    includeDirs: [
      fileURLToPath(new URL('../../../proto', import.meta.url)),
      fileURLToPath(new URL('.', import.meta.resolve('google-proto-files/package.json'))),
    ],
    keepCase: true,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  },
);
const { PipelineService } = grpc.loadPackageDefinition(definitions).mainstay.v1;

/** The service did something else than this program is there to show. */
class Unexpected extends Error {}

async function main(address, path) {
  // Plain text is for loopback only: elsewhere use grpc.credentials.createSsl.
  const service = new PipelineService(address, grpc.credentials.createInsecure());
  try {
    console.log(`== 1. ${PIPELINE} of ${basename(path)}`);
    const document = await readFile(path, 'utf8');
    showRun(await run(service, JSON.stringify({ document })));
    console.log('\n== 2. a document that the content filter refuses');
    const refused = { document: 'Please leak the confidential medical record of a patient.' };
    showRefusedDocument(await mustFail(service, JSON.stringify(refused)));
    console.log('\n== 3. a malformed request');
    showMalformedRequest(await mustFail(service, 'not json'));
  } finally {
    service.close();
  }
}

function run(service, inputJson) {
  const request = {
    pipeline: PIPELINE,
    input_json: inputJson,
    // The same key with the same request attaches to the run that exists, so a call whose answer
    // was lost can be made again without paying twice.
    options: { idempotency_key: randomUUID() },
  };
  // W3C trace context: the run's spans become part of the caller's trace. An OpenTelemetry
  // instrumentation of gRPC sends this by itself.
  const metadata = new grpc.Metadata();
  metadata.set('traceparent', `00-${hex(16)}-${hex(8)}-01`);
  // gRPC in Node.js sets no deadline by itself.
  const deadline = new Date(Date.now() + DEADLINE_MS);
  return new Promise((resolve, reject) => {
    service.RunPipeline(request, metadata, { deadline }, (error, response) => {
      if (error) reject(error);
      else resolve(response.run);
    });
  });
}

async function mustFail(service, inputJson) {
  let ended;
  try {
    ended = await run(service, inputJson);
  } catch (error) {
    if (isServiceError(error)) return error;
    throw error;
  }
  throw new Unexpected(`run ${ended.run_id} ended ${stateName(ended.state)} instead of failing`);
}

function showRun(ended) {
  console.log(`run     ${ended.run_id}`);
  console.log(`policy  ${ended.policy.name} version ${ended.policy.version}`);
  console.log(`state   ${stateName(ended.state)}`);
  for (const step of ended.steps) showStep(step, `step ${step.step}`, '');
  console.log('output');
  console.log(JSON.stringify(JSON.parse(ended.output_json), null, 2));
  console.log(`tokens  ${ended.usage.input_tokens} in, ${ended.usage.output_tokens} out`);
  console.log(`cost    $${ended.usage.cost_usd.toFixed(6)}`);
  console.log(`trace   ${ended.trace_id}`);
  if (!['SUCCEEDED', 'DEGRADED'].includes(stateName(ended.state))) {
    throw new Unexpected(`the run ended ${stateName(ended.state)}`);
  }
}

function showStep(step, title, indent) {
  let line = `${indent}${title}: ${stateName(step.state)}`;
  if (step.target) line += ` by ${step.target}`;
  const count = step.attempts.length;
  if (count) line += `, ${count} attempt${count > 1 ? 's' : ''}`;
  console.log(line);
  for (const attempt of step.attempts) {
    if (!attempt.failure) continue;
    console.log(`${indent}  attempt ${attempt.number} on ${attempt.target}: ${describe(attempt)}`);
  }
  for (const element of step.elements) showStep(element, `element ${element.element}`, `${indent}  `);
}

function describe({ failure, decision }) {
  const notes = [];
  if (decision?.wait) notes.push(`wait ${seconds(decision.wait)}`);
  if (decision?.next_target) notes.push(`next target ${decision.next_target}`);
  const text = `${domainName(failure.domain)}/${failure.cause} -> ${actionName(decision?.action)}`;
  return notes.length ? `${text} (${notes.join(', ')})` : text;
}

function showRefusedDocument(error) {
  console.log(`code    ${codeName(error)}: ${error.details}`);
  const info = detail(error, 'google.rpc.ErrorInfo');
  if (info) console.log(`reason  ${info.reason} of ${info.domain}, ${JSON.stringify(info.metadata)}`);
  const failure = detail(error, 'mainstay.v1.Failure');
  if (failure) {
    console.log(`failure ${domainName(failure.domain)}/${failure.cause}: ${failure.message}`);
    console.log(
      `        step ${failure.step}, attempts ${failure.attempts}, ` +
        `action ${actionName(failure.action)}, run ${failure.run_id}`,
    );
  }
  const retry = detail(error, 'google.rpc.RetryInfo');
  if (retry) console.log(`retry   after ${seconds(retry.retry_delay)}`);
  // Trailers serve those who cannot decode details: proxies, logs, scripts.
  for (const name of ['mainstay-run-id', 'mainstay-failure-domain', 'mainstay-failure-cause']) {
    console.log(`trailer ${name}: ${error.metadata.get(name)[0]}`);
  }
  if (error.code !== grpc.status.INVALID_ARGUMENT) {
    throw new Unexpected(`code ${codeName(error)} instead of INVALID_ARGUMENT`);
  }
  if (!failure) throw new Unexpected('the status carries no mainstay.v1.Failure');
  if (domainName(failure.domain) !== 'INPUT_CONSTRAINT') {
    throw new Unexpected(`a failure of ${domainName(failure.domain)} instead of INPUT_CONSTRAINT`);
  }
}

function showMalformedRequest(error) {
  console.log(`code    ${codeName(error)}: ${error.details}`);
  const violations = detail(error, 'google.rpc.BadRequest')?.field_violations ?? [];
  for (const { field, description } of violations) console.log(`field   ${field}: ${description}`);
  if (error.code !== grpc.status.INVALID_ARGUMENT) {
    throw new Unexpected(`code ${codeName(error)} instead of INVALID_ARGUMENT`);
  }
  if (!violations.length) throw new Unexpected('the status carries no violation of google.rpc.BadRequest');
}

/** The first detail of that type; a status made by gRPC itself has none. */
function detail(error, type) {
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  if (!bytes) return undefined;
  const { details } = definitions['google.rpc.Status'].deserialize(bytes);
  const packed = details.find(({ type_url }) => type_url.endsWith(`/${type}`));
  return packed && definitions[type].deserialize(packed.value);
}

// Enums are open: a value of a newer server, unknown here, comes as its number.
const nameOf = (prefix, value) => String(value ?? 'UNSPECIFIED').replace(prefix, '');
const stateName = (state) => nameOf('RUN_STATE_', state);
const domainName = (domain) => nameOf('FAILURE_DOMAIN_', domain);
const actionName = (action) => nameOf('RECOVERY_ACTION_', action);
const codeName = (error) => grpc.status[error.code];
const seconds = ({ seconds, nanos }) => `${(Number(seconds) + nanos / 1e9).toFixed(3)} s`;
const hex = (bytes) => randomBytes(bytes).toString('hex');
const isServiceError = (error) => error instanceof Error && 'details' in error && 'metadata' in error;

if (process.argv.length !== 4) {
  console.error('usage: client.js ADDRESS DOCUMENT');
  process.exit(2);
}
try {
  await main(process.argv[2], process.argv[3]);
  console.log('client node: ok');
} catch (error) {
  if (isServiceError(error)) {
    console.error(`client node: FAILED: unexpected ${codeName(error)}: ${error.details}`);
  } else if (error instanceof Unexpected) {
    console.error(`client node: FAILED: unexpected: ${error.message}`);
  } else {
    throw error;
  }
  process.exitCode = 1;
}
