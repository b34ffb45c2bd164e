// What the server runs on, and what it warns about.
import { useQuery } from "@tanstack/react-query";

import { serverQuery } from "../../api/queries";
import { formatBytes, formatDuration } from "../../lib/format";
import { Card } from "../../ui/Card";
import { ErrorNote } from "../../ui/ErrorNote";
import { Loading, Warning } from "../../ui/Notes";
import styles from "./HomeView.module.css";

export function ServerCard() {
  const { data, error, refetch } = useQuery(serverQuery);
  if (error) return <ErrorNote error={error} onRetry={() => void refetch()} />;
  if (!data) return <Loading what="the server's state" />;
  const rows: [string, string][] = [
    ["Version", data.version],
    ["Device", data.device],
    ["Processor", data.cpuCapability],
    ["BLAS", data.blas],
    ["Threads", String(data.threads)],
    ["Models compute in", data.dtype],
    ["Hub", data.hubEndpoint.replace(/^https?:\/\//, "")],
    ["Memory", `${formatBytes(data.memoryUsedBytes)} of ${formatBytes(data.memoryBudgetBytes)}`],
    ["Queue", `${data.queueDepth} of ${data.queueLimit}`],
    ["Up for", formatDuration(Number(data.uptimeSeconds))],
    ["LibTorch", data.libtorchVersion],
    ["gRPC", data.grpcVersion],
    ["SQLite", data.sqliteVersion],
  ];
  return (
    <Card title="Server">
      {data.warnings.length > 0 && (
        <div className={styles.warnings}>
          {data.warnings.map((warning) => (
            <Warning key={warning}>{warning}</Warning>
          ))}
        </div>
      )}
      <dl className={styles.server}>
        {rows
          .filter(([, value]) => value !== "")
          .map(([name, value]) => (
            <div key={name} style={{ display: "contents" }}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
    </Card>
  );
}
