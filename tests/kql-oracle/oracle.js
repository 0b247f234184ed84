'use strict';
// Asks Microsoft's own KQL parser and binder (@kusto/language-service-next: C# compiled to JavaScript). One long-lived process: a JSON request a line on
// stdin, a JSON answer a line on stdout, in order. Loading takes 0.3 s, a warm query 2-30 ms, a new command 65-100 ms, a known one 1-5 ms.
//
// "No diagnostics" is not "valid": `.frobnicate b` has none. So `ok` is the strict sense: no Error diagnostic, no unknown or half-read command, no
// skipped tokens, a query where a query is asked for and exactly one command where a command is. What was read (command kinds, names, string literals)
// comes back, for the caller to compare with what it meant.
//
// Request:  {"kind": "query"|"command", "text": string, "schema": Schema}, or
//           {"kind", "text", "session": string, "database": string}: against the schema that the commands asked before in that session have built;
//           with "unresolved": true, names that nothing is known of are no error; with "world": string, the sessions of that world are clusters that
//           see each other, each under its session's name.
// Schema:   {"cluster": string, "database": string, "clusters": [{"name", "databases": [Database]}]}; `cluster` and `database` are the ones in scope.
// Database: {"name", "tables": {T: "(a:long)"}, "functions": {F: {"parameters": "()", "body": "{ T }"}}, "entityGroups": {G: "database('d')"}, "open": bool}
// Answer:   {"ok": bool, "diagnostics": [Diagnostic], "suspect": [string], "commands": [string], "names": [string], "strings": [string],
//            "nameStarts": [number], "stringStarts": [number], "literals": [[type, text inside]], "columns": [[name, type]] or null}, or {"error": string}
//            when the request itself is wrong. Places are UTF-16 units from the beginning of the text. A string is one token: keys in dynamic values too,
//            and each of those that stand side by side. Literals are all but strings and what is in dynamic values.

const path = require('node:path');
const readline = require('node:readline');

const directory = path.dirname(require.resolve('@kusto/language-service-next'));
require(path.join(directory, 'bridge.min.js')); // sets the globals Bridge and System
require(path.join(directory, 'Kusto.Language.Bridge.min.js')); // sets the global Kusto
const { Binding, GlobalState, KustoCode, Symbols, Syntax } = globalThis.Kusto.Language;

const SUSPECT = new Set(['UnknownCommand', 'BadCommand', 'PartialCommand', 'CommandAndSkippedTokens', 'SkippedTokens']);
// "The name ... does not refer to any known ...": what `ifexists` permits.
const UNRESOLVED = new Set(['KS142', 'KS204', 'KS211']);
// `DiagnosticsInclude`: of the syntax and of the semantics.
const DIAGNOSTICS = 3;
const SCRIPT = /^\s*\.execute\s+(?:database\s+)?script\b[^<]*<\|/;

/** A .NET list as an array. */
const array = (list) => Array.from({ length: list.Count }, (_, i) => list.getItem(i));

/** `Kusto.Language.Syntax.NameReference` is `NameReference`. */
const kindOf = (node) => node.constructor.$$fullname.replace('Kusto.Language.Syntax.', '').replace(/`.*/, '');

/** A node's children; those that the text leaves out are null in the parser's tree. */
const children = (node) => Array.from({ length: node.ChildCount }, (_, i) => node.GetChild(i)).filter((child) => child !== null);

/** A node and all below it, in the order of the text. */
function nodes(root) {
  const found = [];
  const waiting = [root];
  while (waiting.length > 0) {
    const node = waiting.pop();
    found.push(node);
    for (let i = node.ChildCount - 1; i >= 0; i--) {
      const child = node.GetChild(i);
      if (child !== null) waiting.push(child);
    }
  }
  return found;
}

/** The `$ctorN` below are Bridge.NET's names for overloads; `Kusto.Language.Bridge.d.ts` lists them. */
function databaseSymbol({ name, tables = {}, functions = {}, entityGroups = {}, open = false }) {
  const members = [
    ...Object.entries(tables).map(([table, schema]) => new Symbols.TableSymbol.$ctor7(table, schema, null)),
    ...Object.entries(functions).map(([f, { parameters, body }]) => new Symbols.FunctionSymbol.$ctor16(f, parameters, body, null)),
    ...Object.entries(entityGroups).map(([group, entities]) => new Symbols.EntityGroupSymbol.$ctor3(group, entities, null)),
  ];
  return new Symbols.DatabaseSymbol.$ctor1(name, members, open);
}

function globalsOf(schema) {
  const clusters = schema.clusters.map((c) => new Symbols.ClusterSymbol.ctor(c.name, c.databases.map(databaseSymbol)));
  const own = clusters.find((c) => c.Name === schema.cluster);
  const database = own?.GetDatabase(schema.database);
  if (!database) throw new Error(`the schema has no database '${schema.database}' in cluster '${schema.cluster}'`);
  return GlobalState.Default.WithClusterList(clusters).WithCluster(own).WithDatabase(database);
}

/** What an answer lists, of each piece of a text. */
const LISTS = ['diagnostics', 'suspect', 'commands', 'names', 'nameStarts', 'strings', 'stringStarts', 'literals'];
const lists = () => Object.fromEntries(LISTS.map((list) => [list, []]));

const parsed = new Map();

/** `KustoCode.ParseAndAnalyze`. What a text is read as depends on nothing else and takes nearly all of the time of a command, so each is parsed once. */
function parseAndAnalyze(text, globals) {
  if (!parsed.has(text)) parsed.set(text, KustoCode.Parse(text));
  const { Kind, Syntax: root, Tree: tree } = parsed.get(text);
  for (const node of nodes(root)) {
    const known = node.GetExtendedData(false);
    if (known) known.SemanticInfo = null;
  }
  if (!Binding.Binder.TryBind(tree, globals, new Binding.LocalBindingCache())) {
    // Too deep, of which it makes a diagnostic.
    const code = KustoCode.ParseAndAnalyze(text, globals);
    return { Kind, Syntax: code.Syntax, diagnostics: code.GetDiagnostics(), ResultType: code.ResultType };
  }
  return { Kind, Syntax: root, diagnostics: root.GetContainedDiagnostics(DIAGNOSTICS), ResultType: KustoCode.DetermineResultType(root) };
}

/** What was read, by what was known then. */
const readings = new Map();

/** So many schemas are remembered, with what was read by them; the oldest is forgotten. What stories send comes to rest after some commands, and is then the same again and again. */
const MOST_SCHEMAS = 64;

/** What is remembered for a key, made where there is none. */
function remembered(memory, key, make) {
  const value = memory.has(key) ? memory.get(key) : make();
  memory.delete(key);
  memory.set(key, value);
  if (memory.size > MOST_SCHEMAS) memory.delete(memory.keys().next().value);
  return value;
}

/** What one text, a query or a single command, is to Microsoft's parser. */
function read(text, globals) {
  const known = remembered(readings, globals, () => new Map());
  if (!known.has(text)) known.set(text, readAnew(text, globals));
  return known.get(text);
}

function readAnew(text, globals) {
  const code = parseAndAnalyze(text, globals);
  const answer = { kind: code.Kind, ...lists(), columns: null, syntax: code.Syntax };
  for (const d of array(code.diagnostics)) {
    answer.diagnostics.push({ code: d.Code, severity: d.Severity, message: d.Message, start: d.Start, length: d.Length });
  }
  let dynamicEnd = 0;
  for (const node of nodes(code.Syntax)) {
    const kind = kindOf(node);
    if (SUSPECT.has(kind)) answer.suspect.push(`${kind} at ${node.TextStart}`);
    if (kind === 'CustomCommand') answer.commands.push(node.CommandKind);
    if (kind === 'NameDeclaration' || kind === 'NameReference') {
      answer.names.push(node.SimpleName);
      answer.nameStarts.push(node.TextStart);
    }
    if (node.Kind === Syntax.SyntaxKind.StringLiteralToken) {
      answer.strings.push(node.Value);
      answer.stringStarts.push(node.TextStart);
    }
    if (kind === 'DynamicExpression') dynamicEnd = node.End;
    else if (kind === 'LiteralExpression' && node.Kind !== Syntax.SyntaxKind.StringLiteralExpression && node.TextStart >= dynamicEnd) {
      answer.literals.push([node.ResultType.Name, node.LiteralValueInfo.ValueText]);
    }
  }
  if (code.ResultType?.Columns) answer.columns = array(code.ResultType.Columns).map((c) => [c.Name, c.Type.Name]);
  return answer;
}

function isAccepted(kind, answer, text, unresolved) {
  const mayBeAbsent = unresolved || (kind === 'command' && /\bifexists\b/.test(text));
  const errors = answer.diagnostics.filter((d) => d.severity === 'Error' && !(mayBeAbsent && UNRESOLVED.has(d.code)));
  if (errors.length > 0 || answer.suspect.length > 0) return false;
  return kind === 'query' ? answer.kind === 'Query' : answer.kind === 'Command' && answer.commands.length === 1;
}

/** Adds what an accepted command creates to the session's database, so that later texts can name it. */
function learn(text, answer, database, globals) {
  const command = nodes(answer.syntax).find((n) => kindOf(n) === 'CustomCommand');
  const parts = command ? children(command.GetChild(1)) : [];
  const source = (node) => text.slice(node.TextStart, node.End);
  const name = parts.find((n) => kindOf(n) === 'NameDeclaration' || kindOf(n) === 'NameReference')?.SimpleName;
  const list = parts.find((n) => source(n).startsWith('('));
  const declaration = parts.find((n) => kindOf(n) === 'FunctionDeclaration');
  const [kind] = answer.commands;
  if (declaration) {
    const [parameters, body] = children(declaration).map(source);
    database.functions[name] = { parameters, body };
  } else if (/^(Create|Alter).*Table$/.test(kind) && list) {
    const declared = children(children(list)[1]).map((element) => element.GetChild(0));
    const columns = Object.fromEntries(declared.map((column) => [column.GetChild(0).SimpleName, source(column)]));
    database.columns[name] = { ...(kind.includes('Merge') && database.columns[name]), ...columns };
    database.tables[name] = `(${Object.values(database.columns[name]).join(', ')})`;
  } else if (kind === 'CreateMaterializedView') {
    // Read like a table, of its query's columns.
    const query = text.slice(text.indexOf('{') + 1, text.lastIndexOf('}'));
    const columns = array(KustoCode.ParseAndAnalyze(query, globals).ResultType.Columns);
    database.tables[name] = `(${columns.map((column) => `['${column.Name}']: ${column.Type.Name}`).join(', ')})`;
  } else if (/^(Create|Alter).*EntityGroup/.test(kind) && list) {
    // The parenthesis is a node of its own here; a group's name holds none.
    database.entityGroups[name] = text.slice(list.TextStart + 1, text.lastIndexOf(')'));
  }
}

/** The commands of a script one by one, each with its place, since a script costs 0.4 s a command here; any other text as it is. */
function* pieces(kind, text) {
  const head = kind === 'command' && SCRIPT.exec(text);
  if (!head) {
    yield [text, 0];
    return;
  }
  yield [`${head[0]} .show version`, 0];
  let start = head[0].length;
  for (const piece of text.slice(start).split(/\n(?=\s*\.[a-z])/)) {
    // A comment above the first command is no command.
    if (!/^(\s*\/\/[^\n]*)*\s*$/.test(piece)) yield [piece, start];
    start += piece.length + 1;
  }
}

const worlds = new Map();

/** The cluster in scope. */
const ownCluster = (schema) => schema.clusters.find((c) => c.name === schema.cluster);

/** Database names have no case. */
const findDatabase = (schema, name) => ownCluster(schema).databases.find((d) => d.name.toLowerCase() === name.toLowerCase());

/** The schema of a session and of those beside it; every database in which something was asked is part of it. */
function sessionSchema({ world = null, session, database }) {
  const key = world ?? session;
  const schema = { cluster: session, clusters: worlds.get(key) ?? [], database };
  worlds.set(key, schema.clusters);
  if (!ownCluster(schema)) schema.clusters.push({ name: session, databases: [] });
  if (!findDatabase(schema, database)) ownCluster(schema).databases.push({ name: database, columns: {}, tables: {}, functions: {}, entityGroups: {} });
  schema.database = findDatabase(schema, database).name;
  return schema;
}

const globalsBySchema = new Map();

function globalsFor(schema) {
  return remembered(globalsBySchema, JSON.stringify(schema), () => globalsOf(schema));
}

function answer({ kind, text, schema, world, session, database, unresolved = false }) {
  const all = { ok: true, ...lists(), columns: null };
  const isScript = kind === 'command' && SCRIPT.test(text);
  for (const [index, [piece, start]] of [...pieces(kind, text)].entries()) {
    const scope = session === undefined ? schema : sessionSchema({ world, session, database });
    const found = read(piece, globalsFor(scope));
    const shifted = (places) => places.map((place) => start + place);
    // The head of a script is read with a harmless body, whose command is not the caller's.
    const commands = isScript && index === 0 ? found.commands.slice(0, 1) : found.commands;
    const one = { ...found, commands, nameStarts: shifted(found.nameStarts), stringStarts: shifted(found.stringStarts) };
    const ok = isAccepted(kind, one, piece, unresolved);
    if (ok && session !== undefined) learn(piece, one, findDatabase(scope, database), globalsFor(scope));
    all.ok &&= ok;
    for (const list of LISTS) all[list].push(...one[list]);
    all.columns = one.columns;
  }
  return all;
}

const answers = new Map();

function cachedAnswer(request) {
  // A session's schema grows between two equal texts, so only stateless requests are remembered.
  if (request.session !== undefined) return answer(request);
  const key = JSON.stringify([request.kind, request.text, request.schema]);
  if (!answers.has(key)) answers.set(key, answer(request));
  return answers.get(key);
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  let result;
  try {
    result = cachedAnswer(JSON.parse(line));
  } catch (error) {
    result = { error: String(error.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(result)}\n`);
});
