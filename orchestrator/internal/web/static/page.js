'use strict';

// The page works without this file. It adds local times, progress of the upload, and live events.

const maxEvents = 200;
const maxCell = 200;
const previewSize = 1 << 20;

function showTime(node) {
    const time = new Date(node.dateTime);
    if (!isNaN(time)) node.textContent = time.toLocaleString();
}

document.querySelectorAll('time').forEach(showTime);
document.querySelector('.problem')?.focus({ preventScroll: Boolean(location.hash) });

// --- Upload ------------------------------------------------------------------------------------

const upload = document.querySelector('#upload form');

function showProblem(section, problem) {
    section.querySelector('.problem')?.remove();
    const box = document.createElement('div');
    box.className = 'problem';
    box.setAttribute('role', 'alert');
    box.tabIndex = -1;
    for (const text of [problem.message, problem.detail, problem.hint]) {
        if (text) box.append(Object.assign(document.createElement('p'), { textContent: text }));
    }
    section.querySelector('h2').after(box);
    box.focus();
}

function sendUpload(form, file) {
    const section = form.closest('section');
    const button = form.querySelector('button');
    const bar = form.querySelector('progress');
    const said = form.querySelector('output');
    const request = new XMLHttpRequest();

    function end(problem) {
        button.disabled = false;
        bar.hidden = true;
        said.textContent = '';
        if (problem) showProblem(section, problem);
    }

    const limit = Number(form.dataset.limit);
    if (limit && file.size > limit) {
        return end({ message: `${file.name} is larger than the ${limit} bytes that this server takes` });
    }

    button.disabled = true;
    bar.hidden = false;
    request.upload.onprogress = event => {
        if (event.lengthComputable) bar.value = event.loaded / event.total;
        said.textContent = event.loaded === event.total
            ? 'Choosing types …' : `${Math.floor(100 * event.loaded / event.total)} %`;
    };
    request.onerror = () => end({ message: 'the connection broke off before the upload was complete' });
    request.onload = () => {
        const to = request.getResponseHeader('Location');
        if (request.status === 201 && to) {
            end();
            location.assign(to);
            return;
        }
        let problem;
        try {
            problem = JSON.parse(request.responseText).error;
        } catch {
            problem = null;
        }
        end(problem || { message: `the server answered ${request.status}` });
    };
    request.open('POST', '/upload-file');
    request.setRequestHeader('Accept', 'application/json');
    request.send(new FormData(form));
}

// The server looks at the beginning of the file only, so that is all that a preview sends.
async function sendPreview(form, file, button) {
    const fields = new FormData(form);
    fields.set('file', file.slice(0, previewSize), file.name);
    button.disabled = true;
    const section = form.closest('section');
    try {
        const answer = await fetch(button.getAttribute('formaction'),
            { method: 'POST', body: fields, headers: { Accept: 'text/html' } });
        const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
        section.querySelectorAll('.problem, #upload-plan').forEach(old => old.remove());
        const problem = page.querySelector('#upload .problem');
        const plan = page.getElementById('upload-plan');
        if (problem) section.querySelector('h2').after(document.adoptNode(problem));
        if (plan) form.after(document.adoptNode(plan));
        (problem || plan)?.focus();
    } catch {
        showProblem(section, { message: 'the connection broke off before the preview came' });
    }
    button.disabled = false;
}

upload.addEventListener('submit', event => {
    const file = upload.elements.file.files[0];
    if (!file) return;
    event.preventDefault();
    if (event.submitter?.hasAttribute('formaction')) sendPreview(upload, file, event.submitter);
    else sendUpload(upload, file);
});

// --- Events ------------------------------------------------------------------------------------

const feed = document.getElementById('feed');
const feedState = document.getElementById('feed-state');
const feedNews = document.getElementById('feed-news');
const shown = new Set(Array.from(feed.children, item => Number(item.dataset.id)));
let source = null;
let news = [];

// A bigint is more than a number holds: it stays as it is written, where the browser can tell.
const parse = text => JSON.parse(text, (key, value, context) =>
    typeof value === 'number' && JSON.rawJSON && String(value) !== context.source
        ? JSON.rawJSON(context.source) : value);

const countRows = count => `${count} row${count === 1 ? '' : 's'}`;

function makeCell(value) {
    const cell = document.createElement('td');
    if (value === null || value === undefined) {
        cell.append(Object.assign(document.createElement('i'), { textContent: 'null' }));
        return cell;
    }
    const letters = [...(typeof value === 'object' ? JSON.stringify(value) : String(value))];
    cell.textContent = letters.slice(0, maxCell).join('') + (letters.length > maxCell ? '…' : '');
    return cell;
}

function fillRows(table, rows) {
    if (!rows?.length) return;
    const names = Object.keys(rows[0]);
    const head = table.createTHead().insertRow();
    for (const name of names) {
        head.append(Object.assign(document.createElement('th'), { scope: 'col', textContent: name }));
    }
    const body = table.createTBody();
    for (const row of rows) body.insertRow().append(...names.map(name => makeCell(row[name])));
}

function makeItem(event) {
    const item = document.querySelector('#events template').content.cloneNode(true).firstElementChild;
    const say = (selector, text) => { item.querySelector(selector).textContent = text; };
    item.className = event.outcome;
    item.dataset.id = event.id;
    say('b', event.outcome);
    say('.matview', event.matview);
    const difference = event.added_count === null ? '' : ` (+${event.added_count} −${event.removed_count})`;
    say('.count', event.row_count === null ? '' : countRows(event.row_count) + difference);
    say('.took', `${Math.round(event.duration_ms)} ms`);
    say('.id', event.id);
    say('.error', event.error_message ?? '');
    const time = item.querySelector('time');
    time.dateTime = event.started_at;
    showTime(time);
    fillRows(item.querySelector('table'), event.rows);
    return item;
}

// One sentence for all that came together: a screen reader reads out each change.
function announce(event) {
    if (!news.length) {
        setTimeout(() => {
            const last = news.at(-1);
            feedNews.textContent = news.length > 1 ? `${news.length} new events, the last of ${last}` : last;
            news = [];
        }, 300);
    }
    news.push(`${event.matview}: ${event.error_message ?? countRows(event.row_count)}`);
}

function receive(event) {
    if (shown.has(event.id)) return;
    shown.add(event.id);

    // An event of a longer refresh may come after one with a greater number.
    const next = Array.from(feed.children).find(item => Number(item.dataset.id) < event.id);
    feed.insertBefore(makeItem(event), next ?? null);
    feed.hidden = false;
    document.querySelector('#events .empty').hidden = true;
    while (feed.children.length > maxEvents) feed.lastElementChild.remove();
    announce(event);
}

function connect() {
    const mine = source = new EventSource('/events/stream');
    source.addEventListener('refresh', message => receive(parse(message.data)));
    source.onopen = () => {
        feedState.textContent = 'Live';
        feedState.className = 'live';
    };
    source.onerror = () => {
        feedState.textContent = 'Reconnecting …';
        feedState.className = '';
        // It tries again by itself, except when the server answered with an error.
        if (mine.readyState === EventSource.CLOSED) setTimeout(() => source === mine && connect(), 5000);
    };
}

// A browser opens few connections to one server: tabs in the background must not hold them all.
document.addEventListener('visibilitychange', () => {
    if (document.hidden) {
        source?.close();
        source = null;
    } else if (!source) {
        connect();
    }
});

if (!document.hidden) connect();
