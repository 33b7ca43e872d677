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
    schedule.addEventListener('input', () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => describe().catch(() => {}), 300);
    });

    for (const button of document.querySelectorAll('.presets button')) {
        button.addEventListener('click', () => {
            schedule.value = button.textContent;
            schedule.dispatchEvent(new Event('input', { bubbles: true }));
        });
    }
}
