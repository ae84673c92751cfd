export const sessionCells = [];
