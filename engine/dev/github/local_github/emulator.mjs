// Runs emulate, the API emulator, kept in step with real git repositories; ends with its standard input.
// argv: the installed package's folder, seed.json, the address that links show. Prints its own address when it listens.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [home, seedFile, serverUrl] = process.argv.slice(2);
const apiUrl = `${serverUrl}/api/v3`;
const { key, ...seed } = JSON.parse(readFileSync(seedFile, "utf8"));

// The package exports a server, but no way into its store: its GitHub part is found by name among its files, and
// what follows is registered around it. The version is pinned, so this is checked once and stays true.
const dist = join(home, "node_modules", "emulate", "dist");
const chunk = readdirSync(dist).find((name) => name.endsWith(".js") && readFileSync(join(dist, name), "utf8").includes("\n  githubPlugin,\n"));
const { githubPlugin, getGitHubStore } = await import(pathToFileURL(join(dist, chunk)).href);
const { createEmulator } = await import(pathToFileURL(join(dist, "api.js")).href);

// What GitHub names in X-Accepted-GitHub-Permissions when a token lacks it.
const NEEDED = [
  [/\/check-(runs|suites)/, "checks=write"],
  [/\/issues\/(\d+\/)?comments|\/issues\/\d+\/labels/, "issues=write; pull_requests=write"],
  [/\/(issues|labels|milestones)/, "issues=write"],
  [/\/pulls/, "pull_requests=write"],
  [/\/(git|contents)\//, "contents=write"],
  [/\/actions\//, "actions=write"],
  [/\/(branches\/.*\/protection|rulesets|collaborators)/, "administration=read"],
];

const register = githubPlugin.register;
githubPlugin.register = function (app, store, webhooks, baseUrl, tokens) {
  register.call(this, app, store, webhooks, baseUrl, tokens);
  const gh = getGitHubStore(store);
  const inner = app.fetch;
  app.fetch = async (request) => {
    const url = new URL(request.url);
    if (url.pathname.startsWith("/_local/")) return local(gh, tokens, request, url);
    const credential = (request.headers.get("authorization") ?? "").replace(/^(bearer|token)\s+/i, "").trim();
    if (credential && !credential.startsWith("eyJ") && !tokens.has(credential)) return refusal(401, "Bad credentials");
    const answer = await inner(request);
    return asGitHub(answer, url, tokens.get(credential));
  };
};

function refusal(status, message, headers = {}) {
  const body = { message, documentation_url: "https://docs.github.com/rest", status: String(status) };
  return Response.json(body, { status, headers });
}

// emulate says "Forbidden" where GitHub names the permission; its links show the address it listens on.
async function asGitHub(answer, url, user) {
  if (answer.status === 403 && user?.installation) {
    const needed = NEEDED.find(([pattern]) => pattern.test(url.pathname))?.[1] ?? "metadata=read";
    return refusal(403, "Resource not accessible by integration", { "x-accepted-github-permissions": needed });
  }
  const headers = new Headers(answer.headers);
  const links = headers.get("link");
  if (links) headers.set("link", links.replace(/<([^>]+)>/g, (_, link) => `<${apiUrl}${new URL(link).pathname}${new URL(link).search}>`));
  if (!(headers.get("content-type") ?? "").includes("json")) return answer;
  const text = (await answer.text()).replaceAll(emulator.url, apiUrl).replace(/"(html_url|clone_url|diff_url|patch_url)":"([^"]*)"/g, (whole, name, value) =>
    value.startsWith(apiUrl) ? `"${name}":"${serverUrl}${value.slice(apiUrl.length)}"` : whole);
  headers.delete("content-length");
  return new Response([204, 304].includes(answer.status) ? null : text, { status: answer.status, headers });
}

// For the local GitHub alone: what a real one does by itself, being one program.
async function local(gh, tokens, request, url) {
  if (request.headers.get("x-local-key") !== key) return refusal(404, "Not Found");
  const body = await request.json();
  const repo = gh.repos.findOneBy("full_name", body.repo);
  if (body.repo && !repo) return refusal(404, `no repository ${body.repo}`);
  switch (url.pathname) {
    case "/_local/objects": return Response.json(takeObjects(gh, repo, body));
    case "/_local/ref": return Response.json(moveRef(gh, repo, body));
    case "/_local/pull": return Response.json(changePull(gh, repo, body));
    case "/_local/who": return Response.json(who(gh, repo, tokens.get(body.token)));
    default: return refusal(404, "Not Found");
  }
}

// Objects come with the names that git gave them; those that are here already are skipped.
function takeObjects(gh, repo, { blobs = [], trees = [], commits = [] }) {
  const add = (collection, sha, fields) => {
    if (collection.findBy("sha", sha).some((found) => found.repo_id === repo.id)) return;
    collection.insert({ repo_id: repo.id, sha, node_id: sha, ...fields });
  };
  for (const [sha, base64] of blobs) {
    const content = Buffer.from(base64, "base64");
    add(gh.blobs, sha, { content: base64, encoding: "base64", size: content.byteLength });
  }
  for (const [sha, entries] of trees)
    add(gh.trees, sha, { tree: entries.map(([mode, type, sha, path]) => ({ mode, type, sha, path })), truncated: false });
  for (const [sha, fields] of commits) add(gh.commits, sha, { ...fields, user_id: null });
  return { blobs: blobs.length, trees: trees.length, commits: commits.length };
}

function moveRef(gh, repo, { ref, sha }) {
  const put = (collection, match, fields) => {
    const found = collection.findBy("repo_id", repo.id).find(match);
    if (!sha) return found && collection.delete(found.id);
    return found ? collection.update(found.id, { sha }) : collection.insert({ repo_id: repo.id, sha, ...fields });
  };
  put(gh.refs, (found) => found.ref === ref, { ref, node_id: "" });
  const name = ref.startsWith("refs/heads/") ? ref.slice("refs/heads/".length) : null;
  if (name) put(gh.branches, (found) => found.name === name, { name, protected: false });
  return { ref, sha };
}

function changePull(gh, repo, { number, fields, merged_by: merger, state }) {
  const pull = gh.pullRequests.findBy("repo_id", repo.id).find((found) => found.number === number);
  const issue = gh.issues.findBy("repo_id", repo.id).find((found) => found.number === number);
  if (!pull || !issue) return { number: null };
  const merged_by_id = merger ? gh.users.findOneBy("login", merger)?.id ?? null : pull.merged_by_id;
  gh.pullRequests.update(pull.id, { ...fields, merged_by_id, ...(state ? { state } : {}) });
  if (state) gh.issues.update(issue.id, { state, closed_at: fields.closed_at ?? null });
  return { number };
}

// Whose token it is, and whether it may write to the repository's contents.
function who(gh, repo, user) {
  if (!user) return { login: null };
  const { installation } = user;
  if (installation) {
    const app = gh.apps.findOneBy("app_id", installation.appId);
    const here = !repo || (repo.owner_id === installation.accountId && repo.owner_type === installation.accountType &&
      (installation.repositorySelection === "all" || installation.repositoryIds.includes(repo.id)));
    const permissions = here ? installation.permissions : {};
    return { login: `${app.slug}[bot]`, permissions, writes: permissions.contents === "write", app: app.slug };
  }
  const person = gh.users.findOneBy("login", user.login);
  const owner = repo && repo.owner_type === "User" && repo.owner_id === person?.id;
  const member = repo && repo.owner_type === "Organization" && gh.teamMembers.all().some((found) =>
    found.user_id === person?.id && gh.teams.get(found.team_id)?.org_id === repo.owner_id);
  const helper = repo && gh.collaborators.findBy("repo_id", repo.id).some((found) =>
    found.user_id === person?.id && ["push", "write", "maintain", "admin"].includes(found.permission));
  return { login: user.login, permissions: null, writes: Boolean(owner || member || helper), app: null };
}

const emulator = await createEmulator({ service: "github", port: 0, seed });
process.stdout.write(`${JSON.stringify({ url: emulator.url })}\n`);
process.stdin.on("end", () => process.exit(0)).resume();
