// The upload: drop a file, preview it, watch its progress.

import { clearSaid, fetchPage, make, showProblem, takeOver } from './common.js';

const previewSize = 1 << 20;

const section = document.getElementById('upload');
const form = section.querySelector('form');
const chosen = form.elements.file;
const button = form.querySelector('.buttons button');
const stop = form.querySelector('.stop');
const bar = form.querySelector('progress');
const said = form.querySelector('output');

// With this script the file field can come first, because the script sends it last. A file can also be dropped.
form.prepend(form.querySelector('.file'));
form.querySelector('.file small').textContent = '(or .csv.gz; choose one or several, or drop them on this page)';

// The file is the first, or its beginning; others follow it.
function fieldsWith(file, others = []) {
    const fields = new FormData(form);
    fields.delete('file');
    fields.append('file', file, chosen.files[0].name);
    for (const other of others) fields.append('file', other, other.name);
    return fields;
}

// --- Upload ------------------------------------------------------------------------------------

// The running upload: the file's name, and whether all of it has been sent.
const cutOff = 'tinydevcrm-upload';
let running = null;

window.addEventListener('beforeunload', event => { if (running) event.preventDefault(); });
window.addEventListener('pagehide', () => {
    if (running) sessionStorage.setItem(cutOff, JSON.stringify(running));
});

// Shows what became of an upload that was interrupted: a part of a file is never imported.
function showCutOff() {
    const left = JSON.parse(sessionStorage.getItem(cutOff) ?? 'null');
    sessionStorage.removeItem(cutOff);
    if (!left) return;
    showProblem(section, {
        message: `you left the page during the upload of ${left.name}`,
        hint: left.isSent
            ? 'The whole file had been sent, so either all of it is imported or nothing. Look at the table before you upload it again.'
            : 'Nothing was imported. Choose the file again to upload it.',
    });
}

showCutOff();

// The hint of a problem names options of the command line. Those that are fields of the form become buttons.
function offerRemedies(hint, retry) {
    const frame = make('p', { className: 'remedies' });
    for (const [, option, quoted, plain] of (hint ?? '').matchAll(/--([a-z-]+) (?:'([^']*)'|([\w#"]+))/g)) {
        const name = option.replaceAll('-', '_');
        const field = document.getElementById(`upload-${name}`);
        const value = quoted ?? plain;
        if (!field || name === 'table') continue;
        const choice = [...field.options ?? []].find(choice => choice.value === value);
        const label = `${field.labels[0].textContent}: ${choice?.textContent ?? value}`;
        const remedy = make('button', { type: 'button', className: 'second', textContent: label });
        remedy.onclick = () => {
            field.value = value;
            field.closest('details').open = true;
            retry();
        };
        frame.append(remedy);
    }
    if (frame.children.length) section.querySelector('.problem').append(frame);
}

function sendUpload(file) {
    const request = new XMLHttpRequest();

    function end(problem) {
        running = null;
        button.disabled = false;
        bar.hidden = stop.hidden = true;
        said.textContent = '';
        if (!problem) return;
        showProblem(section, problem);
        offerRemedies(problem.hint, () => sendUpload(file));
    }

    const limit = Number(form.dataset.limit);
    const others = [...chosen.files].slice(1);
    if (limit && others.reduce((size, other) => size + other.size, file.size) > limit) {
        return end({ message: `${file.name} is larger than ${limit} bytes, the limit of this server` });
    }

    clearSaid(section);
    running = { name: file.name, isSent: false };
    button.disabled = true;
    bar.hidden = stop.hidden = false;
    stop.onclick = () => request.abort();
    request.upload.onprogress = event => {
        if (running) running.isSent = event.loaded === event.total;
        if (event.lengthComputable) bar.value = event.loaded / event.total;
        said.textContent = event.loaded === event.total
            ? 'Choosing types …' : `${Math.floor(100 * event.loaded / event.total)} %`;
    };
    request.onerror = () => end({ message: 'the connection was lost before the upload was complete' });
    request.onabort = () => end({ message: 'the upload was stopped; nothing was imported' });
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
    request.send(fieldsWith(file, others));
}

// --- Preview -----------------------------------------------------------------------------------

// The server reads only the beginning of the file, so a preview sends no more.
async function sendPreview() {
    const file = chosen.files[0];
    const preview = form.querySelector('[formaction]');
    preview.disabled = true;
    if (!running) clearSaid(section);
    said.textContent = 'Reading the file …';
    try {
        const page = await fetchPage(preview.formAction, { method: 'POST', body: fieldsWith(file.slice(0, previewSize)) });
        if (chosen.files[0] !== file) return; // another file was chosen meanwhile
        takeOver(section, page, '#upload-plan', plan => form.querySelector('.buttons').before(plan));
    } catch {
        showProblem(section, { message: 'the connection was lost before the preview arrived' });
    } finally {
        preview.disabled = false;
        if (!button.disabled) said.textContent = '';
    }
}

form.addEventListener('submit', event => {
    const file = chosen.files[0];
    if (!file) return;
    event.preventDefault();
    if (event.submitter?.hasAttribute('formaction')) sendPreview();
    else sendUpload(file);
});

// Another file has other columns.
chosen.addEventListener('change', () => {
    document.getElementById('upload-plan')?.remove();
    if (chosen.files.length) sendPreview();
});

// --- Drop --------------------------------------------------------------------------------------

const hasFile = event => event.dataTransfer.types.includes('Files');

for (const kind of ['dragenter', 'dragover']) {
    document.addEventListener(kind, event => {
        if (!hasFile(event)) return;
        event.preventDefault();
        section.classList.add('dropping');
    });
}
document.addEventListener('dragleave', event => {
    if (!event.relatedTarget) section.classList.remove('dropping');
});
document.addEventListener('drop', event => {
    if (!hasFile(event)) return;
    event.preventDefault();
    section.classList.remove('dropping');
    chosen.files = event.dataTransfer.files;
    chosen.dispatchEvent(new Event('change'));
    section.scrollIntoView();
});
