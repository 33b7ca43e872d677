// The pages of sources: they read themselves again while a run is under way, and a check appears in its place.

import { fetchPage, takeOver } from './common.js';
import { expectNews, whenKnown } from './live.js';
import { describeSchedule } from './schedule.js';

const busyAfter = 2000;

const isBusy = () => document.querySelector('[data-busy]') !== null;

if (document.querySelector('[data-live]')) {
    whenKnown(isAway => { if (!isAway && isBusy()) expectNews(busyAfter); });
    if (isBusy()) expectNews(busyAfter);
}

describeSchedule(document.getElementById('source-schedule'), document.getElementById('source-when'));

// What was typed stays, also what no page shows again.
const check = document.querySelector('[formaction="/sources/check"]');
check?.form.addEventListener('submit', async event => {
    if (event.submitter !== check) return;
    event.preventDefault();
    const output = check.form.querySelector('output');
    check.disabled = true;
    output.textContent = 'Fetching the file …';
    try {
        const page = await fetchPage('/sources/check', { method: 'POST', body: new URLSearchParams(new FormData(check.form)) });
        const section = document.getElementById('new');
        const buttons = check.form.querySelector('.buttons');
        takeOver(section, page, '#found', found => buttons.before(found));
        output.textContent = '';
    } catch {
        output.textContent = 'The connection was lost. Try again.';
    } finally {
        check.disabled = false;
    }
});
