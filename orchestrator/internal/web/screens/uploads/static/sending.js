// The upload: choose files or drop them, see their columns, watch the progress, stop, and try again.

import { fetchPage, make } from './common.js';

const previewSize = 1 << 20;
// A file that is read from its end is sent whole for a preview, up to this size.
const wholeSize = 32 << 20;
const cutOff = 'tinydevcrm-upload';

const section = document.getElementById('upload');
if (section) start();

function start() {
    const form = section.querySelector('form');
    const chosen = form.elements.file;
    const button = form.querySelector('.buttons button');
    const preview = form.querySelector('[formaction]');
    const stop = form.querySelector('.stop');
    const bar = form.querySelector('progress');
    const output = form.querySelector('output');
    const frame = form.querySelector('.file');

    // With this script the file field can come first, because the script sends it last. A file can also be dropped.
    form.prepend(frame);
    frame.querySelector('.how').textContent = 'choose one or several, or drop them on this page';
    const several = make('p', { className: 'several', hidden: true, innerHTML:
        '<label for="upload-several">Several files</label> <select id="upload-several">' +
        '<option value="">go into one table</option><option value="each">go into a table each</option></select>' });
    const names = make('ul');
    frame.append(several);
    frame.after(names);
    frame.append(names);

    // --- What was said -------------------------------------------------------------------------

    const said = () => document.getElementById('upload-said');

    function showProblem(problem) {
        const box = make('div', { className: 'problem', tabIndex: -1 });
        box.setAttribute('role', 'alert');
        box.append(make('p', { textContent: problem.message }));
        if (problem.detail) box.append(make('pre', { tabIndex: 0, textContent: problem.detail }));
        if (problem.hint) box.append(make('p', { textContent: problem.hint }));
        said().replaceChildren(box);
        box.focus();
    }

    const folded = part => part.matches('details') ? part : part.querySelector('details');

    // Takes parts over from a page that the server has written. The focus stays on what chooses a sheet or a file.
    function takeOver(page, ids, again) {
        const chooser = document.activeElement.closest('#upload-what') && document.activeElement.id;
        for (const id of ids) {
            const old = document.getElementById(id);
            const fresh = page.getElementById(id);
            if (!fresh) continue;
            if (folded(old)?.open && folded(fresh)) folded(fresh).open = true;
            old.replaceWith(document.adoptNode(fresh));
        }
        offerRemedies(again);
        (chooser ? document.getElementById(chooser)
            : said().querySelector('.problem') ?? document.getElementById('upload-columns'))?.focus();
    }

    const emptyPlan = () => document.getElementById('upload-plan').replaceChildren();

    // A remedy sets an option, and does again what has failed: a preview or an upload.
    function offerRemedies(again) {
        for (const link of said().querySelectorAll('[data-option]')) {
            const { option, value } = link.dataset;
            const field = document.getElementById(`upload-${option}`);
            if (!field || !chosen.files.length) continue;
            const remedy = make('button', { type: 'button', className: 'second', textContent: link.textContent });
            link.replaceWith(remedy);
            remedy.onclick = () => {
                field.value = option === 'type' && field.value ? `${field.value}; ${value}` : value;
                const group = field.closest('details');
                if (group) group.open = true;
                again();
            };
        }
    }

    // --- Leave ---------------------------------------------------------------------------------

    // The running upload: the file's name, and whether all of it has been sent.
    let running = null;
    // Counts what was asked for: the answer to anything but the last comes too late.
    let turn = 0;

    window.addEventListener('beforeunload', event => { if (running) event.preventDefault(); });
    window.addEventListener('pagehide', () => {
        if (running) sessionStorage.setItem(cutOff, JSON.stringify(running));
    });

    const left = JSON.parse(sessionStorage.getItem(cutOff) ?? 'null');
    sessionStorage.removeItem(cutOff);
    if (left) {
        showProblem({
            message: `you left the page during the upload of ${left.name}`,
            hint: left.isSent
                ? 'The whole file had been sent, so either all of it is imported or nothing. Look at the table before you upload it again.'
                : 'Nothing was imported. Choose the file again to upload it.',
        });
    }

    // --- Upload --------------------------------------------------------------------------------

    const showSize = bytes => bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;

    function showProgress(loaded, total, began, before) {
        bar.value = loaded / total;
        const rest = (Date.now() - began) * (total / loaded - 1) / 1000;
        const wait = rest > 2 && Date.now() - began > 2000 ? `, ${Math.ceil(rest)} s left` : '';
        output.textContent = before + (loaded === total
            ? 'Choosing types …' : `${Math.floor(100 * loaded / total)} % of ${showSize(total)}${wait}`);
    }

    // The fields, with the files last. The first may be the beginning of a file.
    function fieldsWith(files, name = files[0].name) {
        const fields = new FormData(form);
        fields.delete('file');
        files.forEach((file, i) => fields.append('file', file, i ? file.name : name));
        return fields;
    }

    // Sends files into one table. Resolves to where the result is, or to a problem.
    const send = (files, before) => new Promise(resolve => {
        const request = new XMLHttpRequest();
        const began = Date.now();
        running = { name: files[0].name, isSent: false };
        stop.onclick = () => request.abort();
        request.upload.onprogress = event => {
            if (running) running.isSent = event.loaded === event.total;
            if (event.lengthComputable) showProgress(event.loaded, event.total, began, before);
        };
        request.onerror = () => resolve({ problem: { message: 'the connection was lost before the upload was complete' } });
        request.onabort = () => resolve({ problem: { message: 'the upload was stopped; nothing was imported' } });
        request.onload = () => {
            const to = request.getResponseHeader('Location');
            if (request.status === 201 && to) return resolve({ to });
            let problem = null;
            try {
                problem = JSON.parse(request.responseText).error;
            } catch { /* not ours */ }
            resolve({ at: to, problem: problem ?? { message: `the server answered ${request.status}` } });
        };
        request.open('POST', '/upload-file');
        request.setRequestHeader('Accept', 'application/json');
        request.send(fieldsWith(files));
    });

    async function sendAll() {
        const files = [...chosen.files];
        const isEach = !several.hidden && several.querySelector('select').value === 'each';
        const rounds = isEach ? files.map(file => [file]) : [files];
        const limit = Number(form.dataset.limit);
        for (const round of rounds) {
            if (limit && round.reduce((size, file) => size + file.size, 0) > limit) {
                return showProblem({ message: `${round[0].name} is larger than ${limit} bytes, the limit of this server` });
            }
        }
        turn++;
        said().replaceChildren();
        button.disabled = true;
        bar.hidden = stop.hidden = false;
        let result;
        for (const [i, round] of rounds.entries()) {
            result = await send(round, isEach ? `${round[0].name}, ${i + 1} of ${rounds.length}: ` : '');
            if (!result.to) {
                if (i) result.problem.message = `${round[0].name}: ${result.problem.message}; the ${i} before it are imported`;
                if (i) result.at = null;
                break;
            }
        }
        running = null;
        bar.hidden = stop.hidden = true;
        output.textContent = '';
        if (result.to) {
            location.assign(rounds.length > 1 ? '/imports' : result.to);
            return;
        }
        // The server writes the problem in full, with what may help. It is shown once, because each time it moves the
        // button below it.
        const page = result.at ? await fetchPage(result.at).catch(() => null) : null;
        button.disabled = false;
        if (page?.querySelector('#upload-said .problem')) takeOver(page, ['upload-what', 'upload-said'], sendAll);
        else showProblem(result.problem);
    }

    // --- Preview -------------------------------------------------------------------------------

    // Whether nothing of a file can be read before all of it is there: by its name, or as it begins.
    async function isReadFromEnd(file) {
        const name = file.name.toLowerCase().replace(/\.(gz|zst|bz2)$/, '');
        const start = await file.slice(0, 4).text();
        return chosen.dataset.whole.split(',').some(ending => name.endsWith(ending)) || /^(PK[\x03\x05]|PAR[1E])/.test(start);
    }

    // Whether the button has asked for the preview of a large file.
    let isAsked = false;

    // Of other files the server reads only the beginning, so a preview sends no more.
    async function sendPreview() {
        const file = chosen.files[0];
        const asked = ++turn;
        preview.disabled = true;
        output.textContent = 'Reading the file …';
        try {
            const isWhole = await isReadFromEnd(file);
            if (asked !== turn) return;
            if (isWhole && file.size > wholeSize && !isAsked) {
                document.getElementById('upload-plan').replaceChildren(make('p', { className: 'notice', textContent:
                    `There is no preview of ${file.name} yet: all ${showSize(file.size)} of it would be sent first. ` +
                    'Press Preview for it, or upload the file now.' }));
                return;
            }
            const sent = isWhole ? file : file.slice(0, previewSize);
            const page = await fetchPage(preview.formAction, { method: 'POST', body: fieldsWith([sent], file.name) });
            if (chosen.files[0] !== file || asked !== turn) return;
            if (page.getElementById('upload-said')) {
                takeOver(page, ['upload-what', 'upload-plan', 'upload-psql', 'upload-said'], sendPreview);
            } else {
                showProblem({ message: page.querySelector('.problem p')?.textContent ?? 'the preview did not arrive' });
            }
        } catch {
            showProblem({ message: 'the connection was lost before the preview arrived' });
        } finally {
            preview.disabled = false;
            if (!running) output.textContent = '';
        }
    }

    form.addEventListener('submit', event => {
        if (!chosen.files.length) return;
        event.preventDefault();
        isAsked = event.submitter === preview;
        if (isAsked) sendPreview();
        else sendAll();
    });

    // Another sheet has other columns.
    form.addEventListener('change', event => {
        if (!event.target.closest('#upload-what') || !chosen.files.length) return;
        emptyPlan();
        sendPreview();
    });

    // Another file has other columns, and other sheets.
    chosen.addEventListener('change', () => {
        isAsked = false;
        emptyPlan();
        for (const name of ['sheet', 'member']) {
            const field = document.getElementById(`upload-${name}`);
            if (field.matches('select')) field.replaceWith(make('input', { id: field.id, name }));
            else field.value = '';
        }
        const files = [...chosen.files];
        several.hidden = files.length < 2;
        names.replaceChildren(...(files.length > 1 ? files : []).map(file => make('li', { textContent: `${file.name}, ${showSize(file.size)}` })));
        if (files.length) sendPreview();
    });

    // --- Drop ----------------------------------------------------------------------------------

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
        if (running) return;
        chosen.files = event.dataTransfer.files;
        chosen.dispatchEvent(new Event('change'));
        section.scrollIntoView();
    });

    offerRemedies(sendAll);
}
