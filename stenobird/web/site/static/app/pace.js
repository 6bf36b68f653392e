// How fast a transcription moves through its audio, and how long it will still take.

const SPACING_MS = 1000, WINDOW_MS = 120000, ENOUGH_MS = 8000;

export class Pace {
  constructor() { this.samples = []; }

  // Notes that the audio was transcribed up to `heard` seconds. What arrives within a second counts as one sample: a
  // reload repeats all lines at once, which says nothing about the pace.
  note(heard, now = performance.now()) {
    const newest = this.samples.at(-1);
    if (newest && now - newest.at < SPACING_MS) newest.heard = heard;
    else this.samples.push({ at: now, heard });
    while (now - this.samples[0].at > WINDOW_MS) this.samples.shift();
  }

  // Returns the seconds left until `total`, `null` while that is unknown.
  left(total) {
    const first = this.samples[0], last = this.samples.at(-1);
    if (!total || !first || last.at - first.at < ENOUGH_MS || last.heard <= first.heard) return null;
    return Math.max(0, total - last.heard) * (last.at - first.at) / 1000 / (last.heard - first.heard);
  }
}

// Returns the time in words, as coarse as an estimate is.
export function roughly(seconds) {
  if (seconds < 50) return "less than a minute left";
  const minutes = Math.round(seconds / 60);
  if (minutes < 2) return "about a minute left";
  if (minutes < 60) return `about ${minutes > 20 ? Math.round(minutes / 5) * 5 : minutes} minutes left`;
  const hours = Math.round(minutes / 30) / 2;
  return hours === 1 ? "about an hour left" : `about ${hours} hours left`;
}
