/**
 * The rules of viewer/ and of page/, which have packages of their own.
 *
 * @param folder of the package.
 * @param packages that it has installed: `js` and `tseslint`.
 */
export const rules = (folder, { js, tseslint }) => [
  { ignores: ['node_modules', 'coverage', 'dist'] },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: folder } },
    rules: {
      // Numbers in template strings are what messages and paths consist of.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // An index signature states that any name may come.
      '@typescript-eslint/consistent-indexed-object-style': 'off',
      // A field set in the constructor's signature is read at its declaration.
      '@typescript-eslint/parameter-properties': 'off',
    },
  },
  {
    files: ['**/*.mjs'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly' } },
  },
];
