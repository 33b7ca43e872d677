// Local times, SQL that follows what is typed, and buttons to copy it.

import { make, showTimes } from './common.js';

showTimes(document);
document.querySelector('.problem')?.focus({ preventScroll: Boolean(location.hash) });

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

const quoteQuery = text => text.includes('$query$') ? literal(text) : `$query$\n${text}\n$query$`;

function follow(span) {
    const name = span.dataset.field;
    const field = document.getElementById(name)
        ?? span.closest('section').querySelector(`form [name="${name}"]:checked`);
    if (!field) return;
    const isNull = span.dataset.as === 'null' && field.value === '';
    span.textContent = isNull ? 'null' : (span.dataset.as === 'query' ? quoteQuery : literal)(field.value);
}

document.addEventListener('input', event => {
    event.target.closest('section')?.querySelectorAll('span[data-field]').forEach(follow);
});

// --- Tables at hand ----------------------------------------------------------------------------

const query = document.getElementById('view-query');
for (const name of document.querySelectorAll('.hand code')) {
    const button = make('button', { type: 'button', className: 'name', textContent: name.textContent });
    button.addEventListener('click', () => {
        query.setRangeText(name.textContent, query.selectionStart, query.selectionEnd, 'end');
        query.dispatchEvent(new Event('input', { bubbles: true }));
        query.focus();
    });
    name.replaceWith(button);
}
