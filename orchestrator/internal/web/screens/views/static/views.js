// The page of a view: what changes by itself, and a schedule in words as it is typed.

import './live.js';
import { make, showTimes } from './common.js';

if (document.querySelector('[data-done=create]')) sessionStorage.removeItem('tinydevcrm-view');

const schedule = document.getElementById('schedule-schedule');
const when = document.getElementById('schedule-when');
let waiting = null;

function say(described) {
    when.textContent = described.words + (described.time_zone ? ` (${described.time_zone})` : '');
    described.next_due_at.forEach((moment, i) => {
        when.append(i ? ', ' : '; next ', make('time', { dateTime: moment }));
    });
    showTimes(when);
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

    const presets = make('div', { className: 'presets' });
    presets.setAttribute('role', 'group');
    presets.setAttribute('aria-label', 'Usual schedules');
    for (const { value } of document.querySelectorAll('#schedules option')) {
        const button = make('button', { type: 'button', className: 'second small', textContent: value });
        button.addEventListener('click', () => {
            schedule.value = value;
            schedule.dispatchEvent(new Event('input', { bubbles: true }));
        });
        presets.append(button);
    }
    schedule.after(presets);
}
