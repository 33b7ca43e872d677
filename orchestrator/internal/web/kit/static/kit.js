// What every page does: times, SQL that follows what is typed, buttons to copy it, and errors at their word.

import { make, pointAt, showTimes } from './common.js';

showTimes(document);
setInterval(() => { if (!document.hidden) showTimes(document); }, 10000);

const problem = document.querySelector('.problem[tabindex]');
problem?.focus({ preventScroll: Boolean(location.hash) });

// --- The database is away ----------------------------------------------------------------------

// Asks until the database answers. So the page stays as it is for who reads it.
if (document.getElementById('away')) {
    const ask = setInterval(async () => {
        const answer = await fetch(location.href, { method: 'HEAD', headers: { Accept: 'text/html' } }).catch(() => null);
        if (!answer || answer.status === 503) return;
        clearInterval(ask);
        location.reload();
    }, 10000);
}

// --- Errors ------------------------------------------------------------------------------------

pointAt(problem, document.querySelector('textarea[name=query]'));

// --- Copy --------------------------------------------------------------------------------------

async function copy(text, button) {
    try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = 'Copied';
    } catch {
        // Without TLS a page may not write to the clipboard: the text is selected instead.
        getSelection().selectAllChildren(text);
        button.textContent = 'Selected';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 2000);
}

for (const text of document.querySelectorAll('.sql pre, .snippet')) {
    const button = make('button', { type: 'button', className: 'second small copy', textContent: 'Copy' });
    button.setAttribute('aria-live', 'polite');
    button.addEventListener('click', () => copy(text, button));
    text.before(button);
}

// --- SQL as it is typed ------------------------------------------------------------------------

const literal = text => {
    const quoted = `'${text.replaceAll("'", "''")}'`;
    return text.includes('\\') ? `E${quoted.replaceAll('\\', '\\\\')}` : quoted;
};

const identifier = text => `"${text.replaceAll('"', '""')}"`;

const quoteQuery = text => text.includes('$query$') ? literal(text) : `$query$\n${text}\n$query$`;

// data-field is the id of a field, or the name of radio buttons.
function follow(span) {
    const name = span.dataset.field;
    const field = document.getElementById(name)
        ?? span.closest('section').querySelector(`form [name="${name}"]:checked`);
    if (!field) return;
    const isNull = span.dataset.as === 'null' && field.value === '';
    const quote = { query: quoteQuery, identifier }[span.dataset.as] ?? literal;
    span.textContent = isNull ? 'null' : quote(field.value);
}

document.addEventListener('input', event => {
    event.target.closest('section')?.querySelectorAll('span[data-field]').forEach(follow);
});
