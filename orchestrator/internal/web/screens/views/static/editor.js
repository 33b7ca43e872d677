// The query editor: runs the query under it, colours it, and completes names. Without it, the field is a plain one.

import { clearSaid, fetchPage, make, pointAt, showDuration } from './common.js';

const keywords = new Set(`all and any array as asc between by case cast cross current_date current_timestamp desc distinct else
end except exists extract false fetch filter first following from full group having in inner intersect interval is join lateral
left like ilike limit natural not null nulls on offset or order outer over partition preceding range recursive right row rows
select set similar some table then timestamp to true unbounded union unnest using values when where window with within`.split(/\s+/));
const shownNames = 8;
const slowToColour = 20000;

const query = document.getElementById('view-query');
function start() {
    const coloured = make('pre');
    coloured.setAttribute('aria-hidden', 'true');
    const frame = make('div', { className: 'code' });
    query.before(frame);
    frame.append(coloured, query);
    document.querySelector('.keys').hidden = false;
    colours(coloured);
    completion(frame, coloured);
    running();
    draft();
    hand();
}

// --- Colours -----------------------------------------------------------------------------------

const token = new RegExp([
    /(?<comment>--[^\n]*|\/\*[^]*?(?:\*\/|$))/, /(?<string>'(?:[^']|'')*'?|\$(?<tag>\w*)\$[^]*?(?:\$\k<tag>\$|$))/,
    /(?<quoted>"(?:[^"]|"")*"?)/, /(?<number>\b\d[\d.]*(?:e[+-]?\d+)?)/, /(?<word>[\p{L}_][\p{L}\p{N}_$]*)/,
].map(part => part.source).join('|'), 'giu');

function tokens(text) {
    return [...text.matchAll(token)].map(match => {
        const { comment, string, number, word } = match.groups;
        const kind = comment ? 'comment' : string ? 'string' : number ? 'number'
            : word && keywords.has(word.toLowerCase()) ? 'keyword' : 'name';
        return { kind, text: match[0], start: match.index, end: match.index + match[0].length };
    });
}

// Known are the tables and columns, in small letters: only they are coloured as names.
const known = new Set();

function colour(sql) {
    const parts = [];
    let end = 0;
    for (const { kind, text, start, end: next } of sql.length > slowToColour ? [] : tokens(sql)) {
        if (kind === 'name' && !known.has(text.toLowerCase())) continue;
        parts.push(sql.slice(end, start), make('span', { className: `tok-${kind}`, textContent: text }));
        end = next;
    }
    return [...parts, sql.slice(end)];
}

function paint(coloured) {
    // The last line has a height even when it is empty.
    coloured.replaceChildren(...colour(query.value), '\n');
    follow(coloured);
}

function follow(coloured) {
    coloured.style.width = `${query.clientWidth + 2}px`;
    coloured.scrollTop = query.scrollTop;
}

function colours(coloured) {
    query.addEventListener('input', () => paint(coloured));
    query.addEventListener('scroll', () => follow(coloured));
    new ResizeObserver(() => follow(coloured)).observe(query);
    paint(coloured);
}

// --- Completion --------------------------------------------------------------------------------

const plain = name => name.replace(/^"|"$/g, '').toLowerCase();

// The columns of tables that the query names come first, then tables, then all other columns and keywords.
function candidates(names, word) {
    const used = new Set(tokens(query.value).map(part => plain(part.text)));
    const found = new Map();
    const add = (name, note, rank) => {
        const bare = plain(name.split('.').pop());
        if (!bare.startsWith(plain(word)) || bare === plain(word)) return;
        if (!(found.get(name)?.rank <= rank)) found.set(name, { name, note, rank });
    };
    for (const { relation, columns, types } of names) {
        const isUsed = used.has(plain(relation.split('.').pop()));
        add(relation, 'table', 1);
        columns.forEach((column, i) => add(column, isUsed ? `${types[i]}, ${relation}` : types[i], isUsed ? 0 : 2));
    }
    keywords.forEach(name => add(name, '', 3));
    return [...found.values()].sort((a, b) => a.rank - b.rank).slice(0, shownNames);
}

function completion(frame, coloured) {
    const list = make('ul', { id: 'completions', className: 'completions', hidden: true });
    list.setAttribute('role', 'listbox');
    list.setAttribute('aria-label', 'Names');
    frame.append(list);
    query.setAttribute('aria-autocomplete', 'list');
    query.setAttribute('aria-controls', list.id);

    let names = null;
    let chosen = -1;
    // The names are read when the field is first used.
    query.addEventListener('focus', async () => {
        if (names) return;
        names = [];
        const answer = await fetch('/views/names').catch(() => null);
        if (!answer?.ok) return;
        names = await answer.json();
        for (const { relation, columns } of names) [...relation.split('.'), ...columns].forEach(name => known.add(name.toLowerCase()));
        paint(coloured);
    });

    // The part of a name or keyword that stands before the cursor.
    const wordBefore = () => {
        const end = query.selectionStart;
        const at = tokens(query.value).find(part => part.start < end && end <= part.end);
        return ['name', 'keyword'].includes(at?.kind) ? at.text.slice(0, end - at.start) : '';
    };
    const close = () => {
        list.hidden = true;
        chosen = -1;
        query.removeAttribute('aria-activedescendant');
    };
    const choose = next => {
        const items = [...list.children];
        chosen = (next + items.length) % items.length;
        items.forEach((item, i) => item.setAttribute('aria-selected', i === chosen));
        query.setAttribute('aria-activedescendant', items[chosen].id);
    };
    const take = name => {
        const end = query.selectionStart;
        close();
        query.setRangeText(name, end - wordBefore().length, end, 'end');
        query.dispatchEvent(new Event('input', { bubbles: true }));
        query.focus();
        close();
    };
    const place = () => {
        // The text below the field has the same shape: a mark in it is where the cursor is.
        const mark = make('span', { textContent: '\u200b' });
        const probe = coloured.cloneNode(false);
        probe.style.visibility = 'hidden';
        probe.append(query.value.slice(0, query.selectionStart), mark);
        frame.append(probe);
        list.style.top = `${mark.offsetTop + mark.offsetHeight - query.scrollTop + 4}px`;
        list.style.left = `${Math.min(mark.offsetLeft, Math.max(0, frame.clientWidth - 260))}px`;
        probe.remove();
    };
    const open = () => {
        const word = wordBefore();
        const found = word ? candidates(names ?? [], word) : [];
        close();
        if (!found.length) return;
        list.replaceChildren(...found.map(({ name, note }, i) => {
            const item = make('li', { id: `completion-${i}`, textContent: name });
            item.setAttribute('role', 'option');
            if (note) item.append(' ', make('small', { textContent: note }));
            item.addEventListener('mousedown', event => { event.preventDefault(); take(name); });
            item.dataset.name = name;
            return item;
        }));
        list.hidden = false;
        place();
        choose(0);
    };

    query.addEventListener('input', event => { if (event.isTrusted) open(); });
    query.addEventListener('blur', close);
    query.addEventListener('keydown', event => {
        if (list.hidden) return;
        const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (move) choose(chosen + move);
        else if (event.key === 'Tab' && !event.shiftKey) take(list.children[chosen].dataset.name);
        else if (event.key === 'Escape') close();
        else {
            if (['ArrowLeft', 'ArrowRight', 'Home', 'End', 'Enter'].includes(event.key)) close();
            return;
        }
        event.preventDefault();
    });
}

// --- Run ---------------------------------------------------------------------------------------

function running() {
    const form = query.form;
    const section = form.closest('section');
    const run = form.querySelector('.run');
    const stop = form.querySelector('.stop');
    const said = form.querySelector('output');
    let current = null;

    async function ask() {
        current?.abort();
        const own = current = new AbortController();
        const began = performance.now();
        const tick = setInterval(() => { said.textContent = `Running for ${showDuration(performance.now() - began)} …`; }, 200);
        stop.hidden = false;
        said.textContent = 'Running …';
        try {
            const body = new URLSearchParams(new FormData(form));
            const page = await fetchPage(run.formAction, { method: 'POST', body, signal: own.signal });
            clearSaid(section);
            section.querySelector('#result')?.remove();
            const problem = page.querySelector('main .problem');
            const result = page.getElementById('result');
            if (problem) form.querySelector('.buttons').after(document.adoptNode(problem));
            if (result) form.querySelector('.buttons').after(document.adoptNode(result));
            said.textContent = `${problem ? 'Failed' : 'Done'} after ${showDuration(performance.now() - began)}.`;
            pointAt(problem, query);
        } catch {
            if (own === current) said.textContent = own.signal.aborted ? 'Cancelled.' : 'The connection was lost before the rows arrived.';
        }
        clearInterval(tick);
        if (own === current) stop.hidden = true;
    }

    form.addEventListener('submit', event => {
        if (event.submitter !== run) return;
        event.preventDefault();
        ask();
    });
    stop.addEventListener('click', () => current?.abort());
    query.addEventListener('keydown', event => {
        if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        ask();
    });
}

// --- Draft -------------------------------------------------------------------------------------

// What was typed for a new view is kept until it is created, but not on the page of another table.
function draft() {
    if (location.pathname !== '/views/new') return;
    const key = 'tinydevcrm-view';
    const fields = [query, document.getElementById('view-name')];
    const kept = JSON.parse(sessionStorage.getItem(key) ?? 'null');
    const isShown = document.querySelector('main .problem, #result');
    if (kept && kept.search === location.search && !isShown) {
        fields.forEach((field, i) => { field.value = kept.values[i] ?? field.value; });
        query.dispatchEvent(new Event('input', { bubbles: true }));
    }
    for (const field of fields) {
        field.addEventListener('input', () => {
            sessionStorage.setItem(key, JSON.stringify({ search: location.search, values: fields.map(each => each.value) }));
        });
    }
}

// --- Tables at hand ----------------------------------------------------------------------------

function hand() {
    for (const name of document.querySelectorAll('.hand code')) {
        const button = make('button', { type: 'button', className: 'name', textContent: name.textContent });
        button.addEventListener('click', () => {
            query.setRangeText(name.textContent, query.selectionStart, query.selectionEnd, 'end');
            query.dispatchEvent(new Event('input', { bubbles: true }));
            query.focus();
        });
        name.replaceWith(button);
    }
}

if (query) start();
for (const shown of document.querySelectorAll('.sqlcode')) shown.replaceChildren(...colour(shown.textContent));
