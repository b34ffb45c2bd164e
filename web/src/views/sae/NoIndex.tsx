// What to do where an SAE has no index yet.
import { Link } from "wouter";

import { Card } from "../../ui/Card";
import { Empty } from "../../ui/Notes";
import { indexingFormLink } from "../../url/links";

export function NoIndex({ sae }: { sae: string }) {
  return (
    <Card title="No index yet" flush>
      <Empty title={`There is no index of ${sae}.`} command={`featurescope index --sae ${sae} --corpus CORPUS --wait`}>
        <p>
          An index is one pass over a corpus that finds out what each feature fires on.{" "}
          <Link href={indexingFormLink({ sae })}>Start it here</Link>, or run:
        </p>
      </Empty>
    </Card>
  );
}
