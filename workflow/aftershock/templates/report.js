// Start: definitions, tables and explorer; later parts of the page do not wait for what is not there.
startTips();
startTables();
startMethods();
startSequences();
const explorerPlace = document.getElementById("explorer");
const explorer = explorerPlace && new Explorer(explorerPlace);
