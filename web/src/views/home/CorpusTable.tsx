// The tokenised corpora.
import type { Corpus, Model } from "../../gen/featurescope/v1/catalog_pb.js";
import { formatCount, shortHash } from "../../lib/format";
import { Card } from "../../ui/Card";
import { Empty } from "../../ui/Notes";
import table from "../../ui/Table.module.css";

export function CorpusTable({ corpora, models }: { corpora: Corpus[]; models: Model[] }) {
  const model = models[0]?.id ?? "MODEL";
  return (
    <Card title="Corpora" flush>
      {corpora.length === 0 ? (
        <Empty title="There is no corpus yet." command={`featurescope corpus add ID FILE... --model ${model}`}>
          <p>Add .txt files or a .jsonl file, one document a line:</p>
        </Empty>
      ) : (
        <table className={table.table}>
          <thead>
            <tr>
              <th scope="col">Corpus</th>
              <th scope="col">Tokenizer of</th>
              <th scope="col" className="num">
                Tokens
              </th>
              <th scope="col" className="num">
                Documents
              </th>
              <th scope="col" className="num">
                Contexts
              </th>
              <th scope="col" className="num">
                Context size
              </th>
              <th scope="col">Hash</th>
            </tr>
          </thead>
          <tbody>
            {corpora.map((corpus) => (
              <tr key={corpus.id}>
                <th scope="row">{corpus.id}</th>
                <td>{corpus.modelId}</td>
                <td className="num">{formatCount(corpus.nTokens)}</td>
                <td className="num">{formatCount(corpus.nDocuments)}</td>
                <td className="num">{formatCount(corpus.nContexts)}</td>
                <td className="num">
                  {formatCount(corpus.contextSize)}
                  {corpus.prependBos && <span className={table.muted}> with BOS</span>}
                </td>
                <td className={`mono ${table.muted}`} title={corpus.hash}>
                  {shortHash(corpus.hash)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Card>
  );
}
