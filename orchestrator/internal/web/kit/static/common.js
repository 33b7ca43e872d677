// What the scripts of the page share. The page works without them.

const maxCell = 200;

// As words.Ago does.
function showAgo(moment) {
    const passed = Date.now() - moment;
    const say = text => passed < 0 ? `in ${text}` : `${text} ago`;
    const seconds = Math.floor(Math.abs(passed) / 1000);
    const days = Math.floor(seconds / 86400);
    if (seconds < 1) return 'now';
    if (seconds < 60) return say(`${seconds} s`);
    if (seconds < 3600) return say(`${Math.floor(seconds / 60)} min`);
    if (seconds < 86400) return say(`${Math.floor(seconds / 3600)} h`);
    if (days < 30) return say(`${days} day${days === 1 ? '' : 's'}`);
    return moment.toISOString().slice(0, 10);
}

// Pages show times in UTC. The reader's own time is beside it on hover.
export function showTimes(node) {
    for (const time of node.querySelectorAll('time')) {
        const moment = new Date(time.dateTime);
        if (isNaN(moment)) continue;
        const exact = moment.toISOString().slice(0, 19).replace('T', ' ');
        time.title = `${exact} UTC; ${moment.toLocaleString()} here`;
        const text = 'due' in time.dataset && moment < Date.now() ? 'now' : showAgo(moment);
        if (time.textContent !== text) time.textContent = text;
    }
}

export const make = (name, properties = {}) => Object.assign(document.createElement(name), properties);

export const countRows = count => `${Number(count).toLocaleString('en')} row${count === 1 ? '' : 's'}`;

// As words.Duration does.
export function showDuration(ms) {
    if (ms < 1) return 'less than 1 ms';
    if (Math.round(ms) < 1000) return `${Math.round(ms)} ms`;
    if (Math.round(ms / 100) < 600) return `${(ms / 1000).toFixed(1)} s`;
    const seconds = Math.round(ms / 1000);
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
    const minutes = Math.round(ms / 60000);
    return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function makeCell(value) {
    const cell = make('td');
    if (value === null || value === undefined) {
        cell.append(make('i', { textContent: 'null' }));
        return cell;
    }
    if (typeof value === 'number' || JSON.isRawJSON?.(value)) cell.className = 'number';
    const letters = [...(typeof value === 'object' ? JSON.stringify(value) : String(value))];
    cell.textContent = letters.slice(0, maxCell).join('') + (letters.length > maxCell ? '…' : '');
    return cell;
}

// An object does not keep the order of names that are numbers, so the order of the columns is given separately.
export function fillRows(table, rows, names = Object.keys(rows?.[0] ?? {})) {
    if (!rows?.length) return;
    const head = table.createTHead().insertRow();
    for (const name of names) head.append(make('th', { scope: 'col', textContent: name, className: makeCell(rows[0]?.[name]).className }));
    const body = table.createTBody();
    for (const row of rows) body.insertRow().append(...names.map(name => makeCell(row?.[name])));
}

// The messages of the last attempt do not apply to the next one.
export function clearSaid(section) {
    section.querySelectorAll('.problem, .done').forEach(old => old.remove());
}

// As the server does.
export function showProblem(section, problem) {
    clearSaid(section);
    const box = make('div', { className: 'problem', tabIndex: -1 });
    box.setAttribute('role', 'alert');
    box.append(make('p', { textContent: problem.message }));
    if (problem.lines) {
        const table = make('table', { className: 'lines' });
        fillRows(table, problem.lines);
        const frame = make('div', { className: 'scroll', tabIndex: 0 });
        frame.setAttribute('role', 'region');
        frame.setAttribute('aria-label', 'Lines of the file');
        frame.append(table);
        box.append(frame);
    } else if (problem.detail) {
        box.append(make('pre', { tabIndex: 0, textContent: problem.detail }));
    }
    if (problem.hint) box.append(make('p', { textContent: problem.hint }));
    section.querySelector('h2').after(box);
    box.focus();
}

// The database reports the character at which it found the error.
export function pointAt(box, field) {
    const position = Number(box?.dataset.position);
    if (!position || !field) return;
    // JavaScript counts UTF-16 code units: some characters take two.
    const start = [...field.value].slice(0, position - 1).join('').length;
    const word = field.value.slice(start).match(/^\w+|^./su)?.[0] ?? '';
    field.focus();
    field.setSelectionRange(start, start + word.length);
}

// Fetches a page and returns it as a document.
export async function fetchPage(address, options) {
    const answer = await fetch(address, { headers: { Accept: 'text/html' }, ...options });
    return new DOMParser().parseFromString(await answer.text(), 'text/html');
}

// Replaces the old problem, and the old part below the form, by those of the new page.
export function takeOver(section, page, selector, place) {
    section.querySelectorAll(`.problem, .done, ${selector}`).forEach(old => old.remove());
    const problem = page.querySelector(`#${section.id} .problem`) ?? page.querySelector('#away');
    const result = page.querySelector(selector);
    if (problem) section.querySelector('h2').after(document.adoptNode(problem));
    if (result) place(document.adoptNode(result));
    (problem || result)?.focus();
    return problem;
}
