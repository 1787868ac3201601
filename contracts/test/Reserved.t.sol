// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LedgerTypes} from "../src/LedgerTypes.sol";
import {TruncatedStatement} from "../src/libraries/Statement.sol";
import {Market} from "./kit/Market.sol";

contract ReservedTest is Market {
    uint256 private constant SECOND = 0x5EC09D;
    uint256 private constant THIRD = 0x781D;
    // secp256k1's order
    uint256 private constant N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function setUp() public override {
        super.setUp();
        _fund(RENTER_SECRET, 100e6);
    }

    function test_anybodySettlesAReservedStatement() public {
        vm.prank(address(0xA11));
        uint256 paid = ledger.settleReserved(_statement(7, 10e6), _reservation(renter, 7, 10e6));

        vm.assertEq(paid, 10e6);
        vm.assertEq(_credit(provider), 9.4e6);
        vm.assertTrue(ledger.nonceUsed(renter, 7), "nonce used");
    }

    function test_itGivesTheSameBooksAsTheCoordinatorsWay() public {
        bytes memory statement = _statement(7, 12_345_678);
        uint256 before = vm.snapshotState();
        ledger.settleReserved(statement, _reservation(renter, 7, 20e6));
        bytes32 reserved = _books();
        vm.revertToState(before);

        _settle(statement);

        vm.assertEq(_books(), reserved);
    }

    function test_aTotalAboveTheCapIsRefused() public {
        LedgerTypes.Reservation memory reservation = _reservation(renter, 7, 10e6);
        bytes memory statement = _statement(7, 10e6 + 1);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.CapExceeded.selector, 10e6 + 1, 10e6));
        ledger.settleReserved(statement, reservation);
    }

    function test_aReservationIsForOneKeyNonceCapAndOperator() public {
        bytes memory statement = _statement(7, 1e6);
        LedgerTypes.Reservation[5] memory wrong = [
            _reservation(address(0xE15E), 7, 10e6),
            _reservation(renter, 8, 10e6),
            _reservation(renter, 7, 11e6),
            _reservation(renter, 7, 10e6),
            _reservation(RENTER_SECRET, renter, 7, 10e6, 0)
        ];
        wrong[2].cap = 10e6;
        wrong[3].provider = verifier;

        for (uint256 i = 0; i < wrong.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, operator));
            ledger.settleReserved(statement, wrong[i]);
        }
    }

    function test_aStatementThatCannotBePaidIsRefusedWithItsReason() public {
        LedgerTypes.Reservation memory reservation = _reservation(renter, 7, 200e6);
        bytes memory unfunded = _statement(7, 101e6);
        bytes memory statement = _statement(7, 1e6);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.StatementRejected.selector, LedgerTypes.Skip.Unfunded));
        ledger.settleReserved(unfunded, reservation);
        ledger.settleReserved(statement, reservation);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.StatementRejected.selector, LedgerTypes.Skip.NonceUsed));
        ledger.settleReserved(statement, reservation);
    }

    function test_moreThanOneStatementIsRefused() public {
        bytes memory two = bytes.concat(_statement(7, 1e6), _statement(8, 1e6));
        LedgerTypes.Reservation memory reservation = _reservation(renter, 7, 10e6);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.MoreThanOneStatement.selector, 99));
        ledger.settleReserved(two, reservation);
    }

    function test_whatIsNoWholeStatementIsRefused() public {
        LedgerTypes.Reservation memory reservation = _reservation(renter, 7, 10e6);
        bytes memory cut = _statement(7, 1e6);
        assembly {
            mstore(cut, sub(mload(cut), 1))
        }

        vm.expectRevert(abi.encodeWithSelector(TruncatedStatement.selector, 4 + 8 * 32));
        ledger.settleReserved(cut, reservation);
        vm.expectRevert(abi.encodeWithSelector(TruncatedStatement.selector, 4 + 8 * 32));
        ledger.settleReserved("", reservation);
    }

    function test_nobodySettlesBeforeTheReservationsTime() public {
        bytes memory statement = _statement(7, 1e6);
        LedgerTypes.Reservation memory reservation = _reservation(renter, 7, 10e6);
        vm.warp(NOW - 1);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.TooEarly.selector, NOW));
        ledger.settleReserved(statement, reservation);

        vm.warp(NOW); // in its very second

        vm.assertEq(ledger.settleReserved(statement, reservation), 1e6);
    }

    function test_anExpiredStatementIsRefused() public {
        LedgerTypes.Reservation memory reservation = _reservation(renter, 7, 10e6);
        bytes memory statement = _statement(RENTER_SECRET, 7, NOW, _line(1e6));
        vm.warp(NOW + 1);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.StatementRejected.selector, LedgerTypes.Skip.Expired));
        ledger.settleReserved(statement, reservation);
    }

    function test_aStatementThatGivesLessThanAcceptedIsRefused() public {
        LedgerTypes.Reservation memory reservation = _reservation(OPERATOR_SECRET, renter, 7, 20e6, 10e6);
        bytes memory older = _statement(7, 10e6 - 1);
        bytes memory full = _statement(7, 10e6);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.LessThanAccepted.selector, 10e6 - 1, 10e6));
        ledger.settleReserved(older, reservation);
        vm.assertEq(ledger.nonceUsed(renter, 7), false);

        vm.assertEq(ledger.settleReserved(full, reservation), 10e6);
    }

    function test_whatCountsAsGivenAreTheProvidersOwnLines() public {
        LedgerTypes.Reservation memory reservation = _reservation(OPERATOR_SECRET, renter, 7, 20e6, 10e6);
        bytes memory own = _line(5e6);
        bytes memory anothers = _line(verifier, provider, recipe, 5e6);
        bytes memory less = _statement(RENTER_SECRET, 7, FAR, bytes.concat(own, anothers));
        bytes memory full = _statement(RENTER_SECRET, 7, FAR, bytes.concat(own, anothers, own));

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.LessThanAccepted.selector, 5e6, 10e6));
        ledger.settleReserved(less, reservation);

        vm.assertEq(ledger.settleReserved(full, reservation), 15e6);
    }

    function test_aSettledReservationIsRefusedAgainAndSoIsTheBatch() public {
        ledger.settleReserved(_statement(7, 1e6), _reservation(renter, 7, 10e6));

        _assertSkipped(_statement(7, 2e6), LedgerTypes.Skip.NonceUsed);
    }

    function test_aMalleatedReservationIsRefused() public {
        bytes memory statement = _statement(7, 1e6);
        LedgerTypes.Reservation memory reservation = _reservation(renter, 7, 10e6);
        uint256 vs = uint256(reservation.vs);
        vs = (N - (vs & (2 ** 255 - 1))) | ((1 - (vs >> 255)) << 255);
        reservation.vs = bytes32(vs);

        vm.expectRevert();
        ledger.settleReserved(statement, reservation);
    }

    /// The key that an invalid signature gives has no coordinator, and no coordinator 0 has an operator.
    function test_aStatementOfNobodyIsRefusedWhoeverReserves() public {
        bytes memory statement = _statement(7, 1e6);
        assembly {
            mstore(add(statement, 32), 0)
        }
        LedgerTypes.Reservation memory reservation =
            _reservation({secret: OPERATOR_SECRET, where: 0, key: address(0), nonce: 7, cap: 10e6, accepted: 0});

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, address(0)));
        ledger.settleReserved(statement, reservation);
    }

    function test_anotherCoordinatorsReservationIsRefused() public {
        vm.prank(vm.addr(SECOND));
        uint32 theirs = ledger.addCoordinator();
        bytes memory statement = _statement(7, 1e6);
        LedgerTypes.Reservation memory reservation =
            _reservation({secret: SECOND, where: theirs, key: renter, nonce: 7, cap: 10e6, accepted: 0});

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, operator));
        ledger.settleReserved(statement, reservation);
    }

    // ------------------------------------------------------------------------------------- former operators

    function test_aFormerOperatorsReservationCountsForTwoWeeks() public {
        LedgerTypes.Reservation memory reservation = _reservation(renter, 7, 10e6);
        _handOver(operator, vm.addr(SECOND));
        vm.warp(NOW + 14 days);
        ledger.requireReserved(renter, 7, reservation); // in its last second

        vm.warp(NOW + 14 days + 1);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, vm.addr(SECOND)));
        ledger.requireReserved(renter, 7, reservation);
    }

    function test_everyFormerOperatorHasItsOwnTwoWeeks() public {
        LedgerTypes.Reservation memory first = _reservation(renter, 7, 10e6);
        LedgerTypes.Reservation memory next = _reservation(SECOND, renter, 8, 10e6, 0);
        LedgerTypes.Reservation memory last = _reservation(THIRD, renter, 9, 10e6, 0);
        _handOver(operator, vm.addr(SECOND));
        vm.warp(NOW + 10 days);
        _handOver(vm.addr(SECOND), vm.addr(THIRD));
        vm.warp(NOW + 15 days);

        vm.assertEq(_isReserved(7, first), false);
        vm.assertEq(_isReserved(8, next), true);
        vm.assertEq(_isReserved(9, last), true);
    }

    function test_afterThreeRotationsAllOfThemSettle() public {
        _handOver(operator, vm.addr(SECOND));
        _handOver(vm.addr(SECOND), vm.addr(THIRD));
        _handOver(vm.addr(THIRD), address(0xF0));
        uint256[3] memory secrets = [OPERATOR_SECRET, SECOND, THIRD];

        for (uint32 i = 0; i < 3; ++i) {
            ledger.settleReserved(_statement(i, 1e6), _reservation(secrets[i], renter, i, 10e6, 0));
        }

        vm.assertEq(_balance(renter), 97e6);
    }

    function test_anOperatorThatComesBackCountsWithoutEnd() public {
        LedgerTypes.Reservation memory reservation = _reservation(renter, 7, 10e6);
        _handOver(operator, vm.addr(SECOND));
        _handOver(vm.addr(SECOND), operator);
        vm.warp(NOW + 100 days);

        vm.assertEq(_isReserved(7, reservation), true);
    }

    function test_aFormerOperatorOfOneCoordinatorReservesForNoOther() public {
        vm.startPrank(vm.addr(SECOND));
        uint32 theirs = ledger.addCoordinator();
        ledger.setOperator(theirs, address(0xF0));
        vm.stopPrank();

        vm.assertEq(_isReserved(7, _reservation(SECOND, renter, 7, 10e6, 0)), false);
    }

    function test_aReservationNamesTheAccountsCoordinator() public view {
        vm.assertEq(ledger.requireReserved(renter, 7, _reservation(renter, 7, 10e6)), coordinator);
    }

    function _handOver(address from, address to) private {
        vm.prank(from);
        ledger.setOperator(coordinator, to);
    }

    function _isReserved(uint32 nonce, LedgerTypes.Reservation memory reservation) private view returns (bool) {
        try ledger.requireReserved(renter, nonce, reservation) returns (uint32) {
            return true;
        } catch {
            return false;
        }
    }
}
