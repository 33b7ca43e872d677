// Previews of a query and of a schedule, without leaving the page.

import { clearSaid, fetchPage, showProblem, showTimes, takeOver } from './common.js';

// --- Query -------------------------------------------------------------------------------------

const view = document.getElementById('view');
const query = document.getElementById('view-query');

// The database reports the character at which it found the error.
function pointAt(problem) {
    const position = Number(problem?.dataset.position);
    if (!position) return;
    // JavaScript counts UTF-16 code units: some characters take two.
    const start = [...query.value].slice(0, position - 1).join('').length;
    const word = query.value.slice(start).match(/^\w+|^./su)?.[0] ?? '';
    query.focus();
    query.setSelectionRange(start, start + word.length);
}

pointAt(view.querySelector('.problem'));

view.querySelector('form').addEventListener('submit', async event => {
    const button = event.submitter;
    if (!button?.hasAttribute('formaction')) return;
    event.preventDefault();
    const form = event.target;
    const said = form.querySelector('output');
    button.disabled = true;
    clearSaid(view);
    said.textContent = 'Running the query …';
    try {
        const body = new URLSearchParams(new FormData(form));
        const page = await fetchPage(button.formAction, { method: 'POST', body });
        pointAt(takeOver(view, page, '#view-preview', result => form.querySelector('.fields').after(result)));
    } catch {
        showProblem(view, { message: 'the connection was lost before the preview arrived' });
    }
    button.disabled = false;
    said.textContent = '';
});

// A typed query is kept when another table is chosen, until a view is created from it. A suggested query is not kept,
// because the page suggests another one for each table.
const draft = 'tinydevcrm-view';
const name = document.getElementById('view-name');
const isSuggested = field => location.pathname === '/' && field.value === field.defaultValue;

if (document.querySelector('[data-done=create]')) sessionStorage.removeItem(draft);
const kept = JSON.parse(sessionStorage.getItem(draft) ?? 'null');
if (kept && location.pathname === '/') {
    query.value = kept.query ?? query.value;
    name.value = kept.name ?? name.value;
}
for (const field of [query, name]) {
    field.addEventListener('input', () => {
        // The name is kept only with a query that was typed.
        const written = isSuggested(query) ? {} : { query: query.value, name: name.value };
        if (!isSuggested(name)) written.name = name.value;
        sessionStorage.setItem(draft, JSON.stringify(written));
    });
}

// --- Schedule ----------------------------------------------------------------------------------

const schedule = document.getElementById('schedule-schedule');
const when = document.getElementById('schedule-when');
let waiting = null;

function say(described) {
    const next = described.next_due_at.map(moment => new Date(moment).toLocaleString());
    when.textContent = next.length ? `${described.words} (${described.time_zone}); next ${next.join(', ')}` : described.words;
}

async function describe() {
    const asked = schedule.value;
    const answer = await fetch(`/schedules/describe?schedule=${encodeURIComponent(asked)}`);
    const described = await answer.json();
    if (schedule.value !== asked) return; // the user has typed more
    if (answer.ok) say(described);
    else when.textContent = `${described.error.message}. ${described.error.hint ?? ''}`;
}

if (schedule) {
    document.querySelector('#schedule .when').hidden = true;
    schedule.addEventListener('input', () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => describe().catch(() => {}), 300);
    });
    describe().catch(() => {});
}

showTimes(view);
