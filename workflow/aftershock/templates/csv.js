// What a table shows, as a file. A text that a spreadsheet would take for a formula gets an apostrophe.
function csvText(value) {
  if (value == null) return "";
  if (typeof value !== "string") return String(value);
  const safe = /^[=+\-@\t\r\n]/.test(value) ? "'" + value : value;
  return /[",\n\r]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
}

function csvOf(columns, rows) {
  const parts = columns.flatMap((column) => {
    if (column.kind === "text") return [[column.id, (row) => column.words[column.codes[row]]]];
    if (column.kind !== "estimate") return [[column.id, (row) => column.values[row]]];
    const ends = ["low", "high", "n", "clusters"].filter((key) => column[key]);
    return [[column.id, (row) => column.value[row]], ...ends.map((key) => [column.id + "." + key, (row) => column[key][row]])];
  });
  const lines = [parts.map(([name]) => csvText(name)), ...rows.map((row) => parts.map(([, at]) => csvText(at(row))))];
  return lines.map((line) => line.join(",") + "\r\n").join("");
}

function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  const link = make("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}
