// What stages and kinds of transcripts are called.

export const KINDS = { preview: "Free preview", full: "Transcript", test: "Made-up text for a test key" };

const STAGES = {
  validating_url: "Checking the link", resolving_direct: "Looking at what is there", resolving_feed: "Reading the feed",
  resolving_page: "Reading the page", resolving_directory: "Asking the podcast directory",
  resolving_extractor: "Trying what video sites need", source_resolved: "Found the audio", submitted: "Fetching and listening",
};
export const stageName = (stage) => STAGES[stage] || stage.replaceAll("_", " ");

const STATUSES = {
  queued: "waiting", transcribing: "under way", completed: "completed", preview_complete: "preview", failed: "failed", cancelled: "stopped",
};
export const statusName = (status) => STATUSES[status] || status.replaceAll("_", " ");
