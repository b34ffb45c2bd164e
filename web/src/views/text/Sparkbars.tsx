// A feature's activations along a text, as a row of thin bars. Decoration beside the numbers.

const width = 120;
const height = 18;

export function Sparkbars({ values }: { values: readonly number[] }) {
  const max = Math.max(0, ...values);
  const step = width / Math.max(values.length, 1);
  return (
    <svg width={width} height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden="true" style={{ display: "block" }}>
      <line x1={0} x2={width} y1={height - 0.5} y2={height - 0.5} stroke="var(--line-strong)" />
      {values.map((value, i) => {
        if (!(value > 0)) return null;
        const h = Math.max(1.5, (value / max) * (height - 2));
        return <rect key={i} x={i * step} y={height - 1 - h} width={Math.max(1, step - 0.5)} height={h} fill="var(--heat)" />;
      })}
    </svg>
  );
}
