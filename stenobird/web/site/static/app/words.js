// Names for stages, statuses and kinds of transcripts.

export const KINDS = { preview: "Free preview", full: "Transcript", test: "Sample text for a test key" };

const STAGES = {
  validating_url: "Checking the link", resolving_direct: "Opening the link", resolving_feed: "Reading the feed",
  resolving_page: "Reading the page", resolving_directory: "Searching the podcast directory",
  resolving_extractor: "Trying the tool for video sites", source_resolved: "Found the audio", submitted: "Downloading and transcribing",
};
export const stageName = (stage) => STAGES[stage] || stage.replaceAll("_", " ");

const STATUSES = {
  queued: "waiting", transcribing: "in progress", completed: "completed", preview_complete: "preview", failed: "failed", cancelled: "stopped",
};
export const statusName = (status) => STATUSES[status] || status.replaceAll("_", " ");
