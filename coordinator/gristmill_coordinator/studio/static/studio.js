// Brings examples: large files in pieces that go on where they broke off, small ones many at a time, folders as they
// are. Without this script the form sends them as any form does.
"use strict";

const PIECE_BYTES = 4 * 1024 * 1024;
const BATCH_BYTES = 8 * 1024 * 1024;
const BATCH_FILES = 100;
const TRIES = 5;

const form = document.getElementById("bring");
if (form) {
  const picked = []; // {file, name}
  const drop = form.querySelector(".drop");
  const input = form.querySelector("input[type=file]");
  const csrf = form.querySelector("input[name=csrf]").value;
  const progress = document.getElementById("progress");

  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    for (const entry of entries) await collect(entry, "");
    say(`${picked.length} files chosen.`);
  });
  input.addEventListener("change", () => {
    picked.length = 0;
    for (const file of input.files) picked.push({ file, name: file.name });
  });
  form.addEventListener("submit", (event) => {
    if (!picked.length) return; // the server says what is missing
    event.preventDefault();
    bring(event.submitter ? event.submitter.value : "look");
  });

  async function collect(entry, folder) {
    if (entry.isFile) {
      const file = await new Promise((done, fail) => entry.file(done, fail));
      if (!file.name.startsWith(".")) picked.push({ file, name: folder + file.name });
      return;
    }
    const reader = entry.createReader();
    for (;;) { // it gives at most a hundred at a time
      const some = await new Promise((done, fail) => reader.readEntries(done, fail));
      if (!some.length) return;
      for (const one of some) await collect(one, `${folder}${entry.name}/`);
    }
  }

  async function bring(then) {
    const buttons = [...form.querySelectorAll("button")];
    buttons.forEach((button) => { button.disabled = true; });
    const answer = form.querySelector("[name=answer]").value.trim();
    const all = picked.map(({ file, name }) => ({ file, name: answer ? `${answer}/${file.name}` : name }));
    const total = all.reduce((sum, { file }) => sum + file.size, 0);
    let sent = 0;
    const report = (more) => { sent += more; say(`${Math.min(100, Math.floor((100 * sent) / Math.max(total, 1)))} % is here.`); };
    try {
      for (const one of all.filter(({ file }) => file.size > PIECE_BYTES)) await inPieces(one, report);
      await inBatches(all.filter(({ file }) => file.size <= PIECE_BYTES), report);
      await post(new FormData(), then === "more" ? null : form.action.replace(/files$/, "look"));
    } catch (problem) {
      say(problem.message);
      buttons.forEach((button) => { button.disabled = false; });
    }
  }

  async function inPieces({ file, name }, report) {
    const mark = new TextEncoder().encode(`${name}\n${file.size}\n${file.lastModified}`);
    const digest = crypto.subtle ? [...new Uint8Array(await crypto.subtle.digest("SHA-256", mark))] : plainDigest(mark);
    const url = form.dataset.pieces + digest.map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const about = { name, size: file.size };
    let at = null; // how much is there; null: it has to be asked
    let reported = 0;
    for (let tries = 0; at === null || at < file.size;) {
      let answer, text;
      try {
        answer = at === null
          ? await fetch(`${url}?${new URLSearchParams(about)}`)
          : await fetch(`${url}?${new URLSearchParams({ ...about, at })}`, {
            method: "PUT", headers: { "x-csrf": csrf }, body: file.slice(at, at + PIECE_BYTES),
          });
        text = await answer.text();
      } catch (lost) {
        if (++tries > TRIES) throw new Error("The connection is lost. Choose the same file again: it goes on from here.");
        await new Promise((done) => setTimeout(done, 1000 * tries));
        at = null;
        continue;
      }
      at = next(answer.ok, text);
      report(at - reported);
      reported = at;
    }
  }

  // Where the next piece begins, as an answer says.
  function next(ok, text) {
    let said;
    try { said = JSON.parse(text); } catch (page) { throw new Error(noteOf(text)); }
    const here = ok ? said.offset : said.details.offset;
    if (typeof here !== "number") throw new Error([said.what, said.effect, said.todo].join(" "));
    return here;
  }

  async function inBatches(files, report) {
    while (files.length) {
      const data = new FormData();
      let size = 0;
      for (let count = 0; files.length && count < BATCH_FILES && size + files[0].file.size <= BATCH_BYTES; count++) {
        const { file, name } = files.shift();
        data.append("files", file, name);
        size += file.size;
      }
      data.set("then", "more");
      await post(data, form.action, true);
      report(size);
    }
  }

  // Sends what a form would; follows its answer unless stay is set.
  async function post(data, url, stay = false) {
    if (url === null) return location.assign(form.action);
    data.set("csrf", csrf);
    let answer;
    try {
      answer = await fetch(url, { method: "POST", body: data });
    } catch (lost) {
      throw new Error("The connection is lost. Try it again.");
    }
    if (answer.ok && !stay) return location.assign(answer.url);
    if (answer.ok) return undefined;
    throw new Error(noteOf(await answer.text()));
  }

  // What a page says that is wrong.
  function noteOf(text) {
    const note = new DOMParser().parseFromString(text, "text/html").querySelector(".note.error");
    return note ? note.textContent.replace(/\s+/g, " ").trim() : "That did not work. Try it again.";
  }

  // Where the page is not served encrypted, browsers offer no digest; this one only has to tell files apart.
  function plainDigest(bytes) {
    const made = new Array(32).fill(7);
    bytes.forEach((byte, at) => { made[at % 32] = (made[at % 32] * 31 + byte + at) % 256; });
    return made;
  }

  function say(text) { progress.textContent = text; }
}
