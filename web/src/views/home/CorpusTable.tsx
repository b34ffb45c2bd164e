// The tokenised corpora.
import type { Corpus, Model } from "../../gen/featurescope/v1/catalog_pb.js";
import { formatCount, shortHash } from "../../lib/format";
import { ButtonLink } from "../../ui/Button";
import { Card } from "../../ui/Card";
import { DataTable, type Column } from "../../ui/DataTable";
import { Empty } from "../../ui/Notes";
import table from "../../ui/Table.module.css";
import { addCorpusLink } from "../../url/links";

const columns: Column<Corpus>[] = [
  { title: "Corpus", heads: true, cell: (corpus) => corpus.id },
  { title: "Tokenizer of", cell: (corpus) => corpus.modelId },
  {
    title: "Tokens",
    numeric: true,
    cell: (corpus) => (
      <>
        {formatCount(corpus.nTokens)}
        {corpus.nHeldoutTokens > 0n && <span className={table.muted}> ({formatCount(corpus.nHeldoutTokens)} held out)</span>}
      </>
    ),
  },
  { title: "Documents", numeric: true, cell: (corpus) => formatCount(corpus.nDocuments) },
  { title: "Contexts", numeric: true, cell: (corpus) => formatCount(corpus.nContexts) },
  {
    title: "Context size",
    numeric: true,
    cell: (corpus) => (
      <>
        {formatCount(corpus.contextSize)}
        {corpus.prependBos && <span className={table.muted}> with BOS</span>}
      </>
    ),
  },
  { title: "Layout", cell: (corpus) => corpus.layout },
  { title: "From", className: table.muted, cell: (corpus) => corpus.formats.join(", ") },
  {
    title: "Hash",
    className: `mono ${table.muted}`,
    cell: (corpus) => <span title={corpus.hash}>{shortHash(corpus.hash)}</span>,
  },
];

export function CorpusTable({ corpora, models }: { corpora: Corpus[]; models: Model[] }) {
  const model = models[0]?.id ?? "MODEL";
  return (
    <Card title="Corpora" actions={<ButtonLink href={addCorpusLink()}>Add a corpus…</ButtonLink>} flush>
      {corpora.length === 0 ? (
        <Empty title="There is no corpus yet." command={`featurescope corpus add ID FILE... --model ${model}`}>
          <p>Add text, JSON Lines, CSV or TSV files, or directories of them:</p>
        </Empty>
      ) : (
        <DataTable rows={corpora} columns={columns} keyOf={(corpus) => corpus.id} />
      )}
    </Card>
  );
}
